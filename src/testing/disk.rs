//! A disk in memory. It computes what a crash may leave of it, and fails on request.
#![cfg_attr(oncewheel_fuzzing, allow(dead_code))] // the fuzzer only damages files

use crate::journal::{Appender, Storage};
use crate::locks::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

/// What may have become of a write that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Applied,
    Dropped,
    Torn,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Change {
    Append { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct File {
    /// What a process reads.
    live: Vec<u8>,
    /// What is certainly on the disk.
    durable: Vec<u8>,
    /// The changes from `durable` to `live`, which are not synced.
    pending: Vec<Change>,
}

/// Files have numbers, so that a name that is created again is another file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Disk {
    files: BTreeMap<usize, File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// A name and its file; `None` if the name was removed.
    pending_names: Vec<(String, Option<usize>)>,
    /// The file that the last call appended to.
    appended_to: Option<usize>,
}

impl Disk {
    /// A disk with these files, all of them synced.
    pub(crate) fn of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut disk = Self::default();
        for (number, (name, bytes)) in files.into_iter().enumerate() {
            disk.files.insert(number, File { live: bytes.clone(), durable: bytes, pending: Vec::new() });
            disk.names.insert(name, number);
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.names.iter().map(|(name, number)| (name.clone(), self.files[number].live.clone())).collect()
    }

    /// What a process leaves that ends between two calls: everything.
    pub(crate) fn at_rest(&self) -> Self {
        Self::of(self.contents())
    }

    /// What may be left if the process crashes during the last call: every change as a whole, but
    /// of an append any part.
    pub(crate) fn after_crash_of_process(&self) -> Vec<Self> {
        let whole = self.contents();
        let mut images = vec![self.at_rest()];
        for (name, number) in &self.names {
            if self.appended_to == Some(*number)
                && let Some(Change::Append { offset, bytes }) = self.files[number].pending.last()
            {
                for part in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                    let mut torn = whole.clone();
                    torn.insert(name.clone(), whole[name][..offset + part].to_vec());
                    images.push(Self::of(torn));
                }
            }
        }
        images
    }

    /// What may be left after a loss of power. Every unsynced write is applied, dropped or torn,
    /// independently of the others, and every unsynced name is there or not. Returns at most
    /// `limit` disks, and `false` if there would have been more.
    pub(crate) fn after_loss_of_power(&self, limit: usize) -> (Vec<Self>, bool) {
        let reachable = self.names.values().chain(self.durable_names.values());
        let mut reachable: Vec<_> =
            reachable.chain(self.pending_names.iter().filter_map(|(_, number)| number.as_ref())).collect();
        reachable.sort_unstable();
        reachable.dedup();
        let writes: Vec<_> = reachable.iter().flat_map(|number| &self.files[number].pending).collect();
        let choices = writes.iter().map(|change| match change {
            Change::Append { .. } => 3,
            Change::Truncate(_) => 2,
        });
        let choices: Vec<usize> = choices.chain(self.pending_names.iter().map(|_| 2)).collect();
        let all = choices.iter().fold(1usize, |all, count| all.saturating_mul(*count));
        let images = (0..all.min(limit)).map(|image| {
            // Spread evenly over all images if not every one is wanted.
            let mut image = if all <= limit { image } else { image.wrapping_mul(0x9e37_79b9_7f4a_7c15) % all };
            let mut fates = choices.iter().map(|count| {
                let fate = [Fate::Applied, Fate::Dropped, Fate::Torn][image % count];
                image /= count;
                fate
            });
            let contents: BTreeMap<_, _> =
                reachable.iter().map(|number| (**number, self.files[number].after(&mut fates))).collect();
            let mut names = self.durable_names.clone();
            for (name, number) in &self.pending_names {
                match (fates.next(), number) {
                    (Some(Fate::Applied), Some(number)) => drop(names.insert(name.clone(), *number)),
                    (Some(Fate::Applied), None) => drop(names.remove(name)),
                    _ => {}
                }
            }
            Self::of(names.into_iter().map(|(name, number)| (name, contents[&number].clone())))
        });
        (images.collect(), all <= limit)
    }
}

impl File {
    fn after(&self, fates: &mut impl Iterator<Item = Fate>) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            change.apply(&mut bytes, fates.next().unwrap_or(Fate::Applied));
        }
        bytes
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>, fate: Fate) {
        match self {
            _ if fate == Fate::Dropped => {}
            Self::Truncate(length) => file.truncate(*length),
            Self::Append { offset, bytes } => {
                let bytes = if fate == Fate::Torn { &bytes[..bytes.len() / 2] } else { bytes };
                // If a write before this one was dropped, its bytes read as zeros.
                file.resize(file.len().max(offset + bytes.len()), 0);
                file[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Error(ErrorKind),
    /// An append writes a part of its bytes before it fails. Other calls succeed.
    Short(ErrorKind),
}

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    calls: usize,
    /// The numbers of the calls that fail, and how they do.
    faults: Option<(std::ops::Range<usize>, Fault)>,
    /// The disk after every change, if `watch` was called.
    history: Option<Vec<Disk>>,
}

/// A handle to a disk. Its clones are handles to the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated(Arc<Mutex<State>>, Arc<Gate>);

/// Syncs of files wait until this is dropped, which also happens when a test fails.
pub(crate) struct HeldSyncs(Simulated);

impl HeldSyncs {
    pub(crate) fn has_one(&self) -> bool {
        self.0.1.state.lock().waiting > 0
    }

    pub(crate) fn let_one_pass(&self) {
        self.0.1.state.lock().may_pass += 1;
        self.0.1.changed.notify_all();
    }
}

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        self.0.1.state.lock().is_shut = false;
        self.0.1.changed.notify_all();
    }
}

/// Where syncs wait while it is shut.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_shut: bool,
    waiting: usize,
    may_pass: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.is_shut && state.may_pass == 0);
        state.may_pass = state.may_pass.saturating_sub(1);
        state.waiting -= 1;
    }
}

impl Simulated {
    pub(crate) fn on(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(State { disk, ..State::default() })), Arc::default())
    }

    pub(crate) fn watch(&self) {
        let mut state = self.0.lock();
        state.history = Some(vec![state.disk.clone()]);
    }

    /// The disk after every change since the last call, in order.
    pub(crate) fn take_history(&self) -> Vec<Disk> {
        self.0.lock().history.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn disk(&self) -> Disk {
        self.0.lock().disk.clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// Makes the calls of these numbers fail.
    pub(crate) fn fail(&self, calls: std::ops::Range<usize>, fault: Fault) {
        self.0.lock().faults = Some((calls, fault));
    }

    /// Makes syncs of files wait until the returned value is dropped.
    pub(crate) fn hold_syncs(&self) -> HeldSyncs {
        self.1.state.lock().is_shut = true;
        HeldSyncs(self.clone())
    }

    pub(crate) fn boxed(&self) -> Box<dyn Storage> {
        Box::new(self.clone())
    }

    fn call<R>(&self, call: impl FnOnce(&mut Disk, Option<Fault>) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.0.lock();
        let number = state.calls;
        state.calls += 1;
        let fault = state.faults.as_ref().filter(|(calls, _)| calls.contains(&number)).map(|(_, fault)| *fault);
        state.disk.appended_to = None;
        let result = call(&mut state.disk, fault);
        let State { disk, history, .. } = &mut *state;
        if let Some(history) = history
            && history.last() != Some(disk)
        {
            history.push(disk.clone());
        }
        result
    }

    /// A call that either succeeds or changes nothing.
    fn simple<R>(&self, call: impl FnOnce(&mut Disk) -> io::Result<R>) -> io::Result<R> {
        self.call(|disk, fault| match fault {
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short(_)) | None => call(disk),
        })
    }
}

fn file<'a>(disk: &'a mut Disk, name: &str) -> io::Result<&'a mut File> {
    let number = disk.names.get(name).ok_or(ErrorKind::NotFound)?;
    disk.files.get_mut(number).ok_or_else(|| ErrorKind::NotFound.into())
}

impl Storage for Simulated {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.simple(|disk| Ok(disk.contents().into_iter().map(|(name, bytes)| (name, bytes.len() as u64)).collect()))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.simple(|disk| {
            let bytes = &file(disk, name)?.live;
            let start = bytes.len().min(offset as usize);
            Ok(bytes[start..start.saturating_add(length).min(bytes.len())].to_vec())
        })
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        let number = self.simple(|disk| {
            let number = disk.files.len();
            if disk.names.contains_key(name) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            disk.files.insert(number, File::default());
            disk.names.insert(name.to_owned(), number);
            disk.pending_names.push((name.to_owned(), Some(number)));
            Ok(number)
        })?;
        Ok(Box::new(Open { storage: self.clone(), number }))
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.simple(|disk| {
            let file = file(disk, name)?;
            file.live.truncate(length as usize);
            file.pending.push(Change::Truncate(length as usize));
            Ok(())
        })?;
        let number = self.0.lock().disk.names.get(name).copied().ok_or(ErrorKind::NotFound)?;
        Open { storage: self.clone(), number }.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.simple(|disk| {
            disk.names.remove(name).ok_or(ErrorKind::NotFound)?;
            disk.pending_names.push((name.to_owned(), None));
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let number = self.0.lock().disk.names.get(name).copied().ok_or(ErrorKind::NotFound)?;
        Open { storage: self.clone(), number }.sync()
    }

    fn unlock(&mut self) {}

    fn sync_dir(&self) -> io::Result<()> {
        self.simple(|disk| {
            disk.durable_names = disk.names.clone();
            disk.pending_names.clear();
            Ok(())
        })
    }
}

struct Open {
    storage: Simulated,
    number: usize,
}

impl Appender for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.storage.call(|disk, fault| {
            let file = disk.files.get_mut(&self.number).ok_or(ErrorKind::NotFound)?;
            let (written, result) = match fault {
                None => (bytes, Ok(())),
                Some(Fault::Error(kind)) => (&bytes[..0], Err(kind.into())),
                Some(Fault::Short(kind)) => (&bytes[..bytes.len() / 3], Err(kind.into())),
            };
            let offset = file.live.len();
            file.live.extend_from_slice(written);
            file.pending.push(Change::Append { offset, bytes: written.to_vec() });
            disk.appended_to = Some(self.number);
            result
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.storage.1.pass();
        self.storage.call(|disk, fault| {
            let file = disk.files.get_mut(&self.number).ok_or(ErrorKind::NotFound)?;
            let pending = std::mem::take(&mut file.pending);
            match fault {
                None | Some(Fault::Short(_)) => {
                    pending.iter().for_each(|change| change.apply(&mut file.durable, Fate::Applied));
                    Ok(())
                }
                // As on Linux: bytes that could not be written are dropped. Readers still see them,
                // and the next sync does not try again to write them.
                Some(Fault::Error(kind)) => Err(kind.into()),
            }
        })
    }
}
