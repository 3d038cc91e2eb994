//! Kills during an opening: moments that real kills have shown, made by hand.

use super::Durable;
use super::script::config;
use oncewheel::{Config, Verdict, unsync};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, process};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("oncewheel-recovery-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(dir: &Path, config: Config) -> unsync::DedupCache {
    <unsync::DedupCache as Durable>::open(dir, config).unwrap()
}

#[test]
fn an_opening_that_was_killed_while_it_quarantined_a_truncated_tail_is_repeated() {
    let folder = Folder::new("quarantine");
    let mut cache = open(&folder.0, config());
    assert_eq!(cache.insert("a", oncewheel::Timestamp::from_millis(1000)), Ok(Verdict::Fresh));
    drop(cache);
    let segment = folder.0.join("0000000000000000.segment");
    File::options().append(true).open(&segment).unwrap().write_all(b"tail").unwrap();
    // The tail was being copied, and not truncated yet.
    fs::write(folder.0.join("0000000000000000.segment.1.damaged"), b"ta").unwrap();
    let mut cache = open(&folder.0, config());
    assert_eq!(cache.insert("a", oncewheel::Timestamp::from_millis(1000)), Ok(Verdict::Duplicate));
    let damage = &cache.recovery().unwrap().damage;
    let kept = damage[0].quarantined_in.as_ref().map(fs::read).unwrap().unwrap();
    assert_eq!((damage.len(), &*kept), (1, b"tail".as_slice()));
}
