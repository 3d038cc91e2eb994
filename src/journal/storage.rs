//! Where a journal lies: the few calls to a file system, so that tests can fail each of them.

use super::{Error, ErrorKind};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A directory of files that only grow. Nothing is durable before `sync`, or, for the names,
/// `sync_dir`.
pub(crate) trait Storage: Send {
    /// How messages name a file.
    fn path(&self, name: &str) -> PathBuf;
    /// Names and lengths in bytes.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Up to `length` bytes from `offset`; fewer only where the file ends.
    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// A new file that only its owner may read; an error if the name exists.
    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>>;
    /// Cuts a file's end off, durably.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes durable what an earlier process has appended.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Makes the creation and removal of files durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Lets another process open the directory. Nothing is called after this.
    fn unlock(&mut self);

    /// What the caller is told of an error on a file; "" is the directory.
    fn failure(&self, doing: &str, name: &str, error: io::Error) -> Error {
        Error::io(doing, self.path(name), error)
    }
}

pub(crate) trait Appender: Send {
    /// After an error, any part of `bytes` may stand at the file's end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes durable what was appended.
    fn sync(&mut self) -> io::Result<()>;
}

const LOCK: &str = "lock";
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A directory of the file system, locked against other processes.
pub(crate) struct Directory {
    path: PathBuf,
    /// Held open: the lock goes with it, and with the process.
    lock: Option<File>,
}

impl Directory {
    /// Waits for the lock for up to `lock_timeout`.
    pub(crate) fn open(path: &Path, lock_timeout: Duration) -> Result<Self, Error> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |error| Error::io(doing, path, error)
        };
        fs::create_dir_all(path).map_err(failed("create the directory", path))?;
        // Its own name must be durable, too, and the names above that may be new. Where a directory
        // cannot be opened, nothing can be done.
        let here = Path::new(".");
        for above in path.ancestors().skip(1).map(|above| if above == Path::new("") { here } else { above }) {
            if let Ok(above) = File::open(above) {
                let _ = above.sync_all();
            }
        }
        let lock_path = path.join(LOCK);
        let lock = private().truncate(false).open(&lock_path).map_err(failed("open", &lock_path))?;
        let since = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path: path.to_owned(), lock: Some(lock) }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path)(error)),
            }
            match lock_timeout.checked_sub(since.elapsed()) {
                Some(left) if left > Duration::ZERO => std::thread::sleep(left.min(LOCK_PAUSE)),
                _ => return Err(Error::new(ErrorKind::Locked, lock_path)),
            }
        }
    }
}

/// To write, created if missing, for the owner alone. (Some systems require more than append access
/// to lock or truncate a file.)
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Storage for Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is not Unicode is not one of the journal's.
            if let Ok(name) = entry.file_name().into_string() {
                files.push((name, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(name))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        Ok(Box::new(private().create_new(true).open(self.path(name))?))
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path(name))?.sync_all()
    }

    fn sync_dir(&self) -> io::Result<()> {
        // Other systems cannot open a directory, and need not.
        if cfg!(unix) { File::open(&self.path)?.sync_all() } else { Ok(()) }
    }

    fn unlock(&mut self) {
        self.lock = None;
    }
}

impl Appender for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stores_lists_truncates_and_removes_files() {
        let path = std::env::temp_dir().join(format!("oncewheel-storage-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let storage = Directory::open(&path, Duration::ZERO).unwrap();
        assert!(Directory::open(&path, Duration::ZERO).is_err_and(|error| error.kind() == ErrorKind::Locked));
        let mut file = storage.create("a").unwrap();
        assert!(storage.create("a").is_err(), "the name is taken");
        file.append(b"0123").unwrap();
        file.append(b"4567").unwrap();
        assert_eq!(storage.read("a", 2, 4).unwrap(), b"2345");
        assert_eq!(storage.read("a", 6, usize::MAX).unwrap(), b"67");
        storage.truncate("a", 3).unwrap();
        let mut listed = storage.list().unwrap();
        listed.retain(|(name, _)| name != LOCK);
        assert_eq!(listed, [("a".to_owned(), 3)]);
        assert_eq!(storage.path("a"), path.join("a"));
        storage.remove("a").unwrap();
        assert!(storage.read("a", 0, 1).is_err() && storage.remove("a").is_err());
        drop(storage);
        fs::remove_dir_all(&path).unwrap();
    }
}
