//! Storage that fails at a chosen moment, as a disk does that is full, has been taken away, or loses power.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::*;

/// What is on the disk.
#[derive(Clone, Default, Debug)]
pub(super) struct Image {
    pub bytes: Vec<u8>,
    /// The same when everything was last safe.
    pub safe: Vec<u8>,
    /// Writes until it fails, and keeps failing.
    pub left: Option<u64>,
}

/// The disk: whoever has it sees the same.
#[derive(Clone, Default, Debug)]
pub(super) struct Disk(Arc<Mutex<Image>>);

impl Disk {
    pub fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.image().safe.clone_from(&bytes);
        disk.image().bytes = bytes;
        disk
    }

    pub fn image(&self) -> MutexGuard<'_, Image> {
        self.0.lock().unwrap()
    }

    fn change(&self, what: impl FnOnce(&mut Image)) -> io::Result<()> {
        let mut image = self.image();
        if let Some(left) = &mut image.left {
            if *left == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            *left -= 1;
        }
        what(&mut image);
        Ok(())
    }

    /// The store on this disk.
    pub fn open(&self) -> Result<(Db, Desired), StoreError> {
        let disk = self.clone();
        let open = Box::new(move || Database::builder().create_with_backend(disk.clone()));
        read("disk".into(), open, "test", ula(), |_| Ok(()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.image().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.image();
        let at = offset as usize;
        let there = image.bytes.get(at..at + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|image| image.bytes.resize(len as usize, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|image| image.safe.clone_from(&image.bytes))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|image| {
            let at = offset as usize;
            image.bytes[at..at + data.len()].copy_from_slice(data);
        })
    }
}

/// A network with this number and name.
pub(super) fn net(number: u32, name: &str) -> Object {
    let mut d = empty();
    let n = network(&mut d, name, &["10.0.0.0/24"]);
    let mut record = d.networks[&n].clone();
    record.number = number;
    Object::Network(record)
}

pub(super) fn put(objects: Vec<Object>) -> Change {
    Change {
        put: objects,
        remove: vec![],
    }
}

pub(super) fn names(desired: &Desired) -> Vec<(u32, &str)> {
    let all = desired.networks.values();
    all.map(|n| (n.number, n.name.as_str())).collect()
}

/// A disk with two networks.
pub(super) fn shop() -> Disk {
    let disk = Disk::default();
    let (mut db, d) = disk.open().unwrap();
    let objects = vec![net(1, "web"), net(2, "db")];
    db.write(&put(objects), &d.meta, Kind::Change).unwrap();
    drop(db);
    disk
}

/// Changes one, makes one, removes one.
pub(super) fn change() -> Change {
    Change {
        put: vec![net(1, "front"), net(3, "late")],
        remove: vec![Key::Network(2)],
    }
}

const OLD: [(u32, &str); 2] = [(1, "web"), (2, "db")];
const NEW: [(u32, &str); 2] = [(1, "front"), (3, "late")];

#[test]
fn a_disk_that_fails_at_any_write_leaves_what_was_told_and_is_used_again_once_it_is_back() {
    let before = shop().image().bytes.clone();
    let (mut failed, mut crashed) = (0, 0);
    for at in 0.. {
        let disk = Disk::of(before.clone());
        let (mut db, d) = disk.open().unwrap();
        disk.image().left = Some(at);
        let mut meta = d.meta.clone();
        meta.next_number = 9;
        let Err(e) = db.write(&change(), &meta, Kind::Change) else {
            assert!(at > 3, "a commit writes something");
            break;
        };
        failed += 1;
        let line = e.to_string();
        assert!(
            line.contains("No space left") && !line.contains('\n'),
            "{line}"
        );
        let e = db.write(&change(), &meta, Kind::Change).unwrap_err();
        assert!(e.to_string().contains("No space left"), "still: {e}");
        // Had the power gone now: with all that was written, or with what was safe alone.
        let image = disk.image().clone();
        for bytes in [image.bytes, image.safe] {
            let (_, found) = Disk::of(bytes).open().unwrap();
            let all = names(&found);
            assert!(all == OLD || all == NEW, "{at}: {all:?}");
            crashed += usize::from(all == NEW);
        }
        // The disk is back: what was refused is not there, and what comes is stored.
        disk.image().left = None;
        db.write(&put(vec![net(4, "new")]), &d.meta, Kind::Change)
            .unwrap();
        drop(db);
        let (_, found) = disk.open().unwrap();
        assert_eq!(names(&found), [OLD[0], OLD[1], (4, "new")], "{at}");
    }
    println!("{failed} writes failed, {crashed} crashes found the change");
}

#[test]
fn a_full_disk_does_not_keep_a_store_from_being_read() {
    let disk = shop();
    // As much as there is may be written anew; it must not grow.
    let len = disk.image().bytes.len();
    let (db, found) = disk.open().unwrap();
    assert_eq!(names(&found), OLD);
    drop(db);
    assert_eq!(disk.image().bytes.len(), len);
}

#[test]
fn what_is_taken_back_is_taken_back_in_the_end() {
    for at in 0.. {
        let disk = shop();
        let (mut db, d) = disk.open().unwrap();
        let mut state = d.clone();
        let back = state.apply(&change());
        db.write(&change(), &d.meta, Kind::Change).unwrap();
        disk.image().left = Some(at);
        let failed = db.write(&back, &d.meta, Kind::Back).is_err();
        disk.image().left = None;
        // As at the end of the daemon, or before the next change.
        db.heal().unwrap();
        drop(db);
        let (_, found) = disk.open().unwrap();
        assert_eq!(names(&found), OLD, "{at}");
        if !failed {
            assert!(at > 3, "a commit writes something");
            break;
        }
    }
}
