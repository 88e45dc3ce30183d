//! The store on real files, and on storage that fails.

use std::os::unix::fs::PermissionsExt;

mod damage;
mod disk;
mod layouts;

use super::*;
use crate::model::desired::tests::{empty, endpoint, network};
use crate::model::{Key, Object};

fn ula() -> Ipv6Net {
    "fd12:3456:789a::/48".parse().unwrap()
}

fn reopen(dir: &Path) -> (Store, Desired) {
    // The writer thread of a dropped store lets the database go a moment later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match Store::open(dir, "test", ula()) {
            Ok(all) => return all,
            Err(e) if std::time::Instant::now() > deadline => panic!("{e}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[test]
fn what_is_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut d = empty();
    let web = network(&mut d, "web", &["10.0.0.0/24"]);
    let a = endpoint(&mut d, "a", web, &["10.0.0.2/24"]);
    let objects = vec![
        Object::Network(d.networks[&web].clone()),
        Object::Endpoint(d.endpoints[&a].clone()),
    ];
    let (store, first) = reopen(dir.path());
    assert!(first.networks.is_empty());
    store
        .commit(
            Change {
                put: objects,
                remove: vec![],
            },
            d.meta.next_number,
        )
        .wait()
        .unwrap();
    drop(store);
    let (store, second) = reopen(dir.path());
    assert_eq!(
        (&second.networks, &second.endpoints),
        (&d.networks, &d.endpoints)
    );
    assert_eq!(second.meta, d.meta);
    store
        .commit(
            Change {
                put: vec![],
                remove: vec![Key::Endpoint(a)],
            },
            9,
        )
        .wait()
        .unwrap();
    drop(store);
    let (_store, third) = reopen(dir.path());
    assert!(third.endpoints.is_empty() && third.networks.len() == 1);
    assert_eq!(third.meta.next_number, 9);
}

#[test]
fn the_store_is_private_and_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = reopen(dir.path());
    let mode = std::fs::metadata(dir.path().join(FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let e = Store::open(dir.path(), "test", ula())
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("in use by another netd"), "{e}");
}

#[test]
fn another_instance_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(reopen(dir.path()));
    let e = loop {
        match Store::open(dir.path(), "other", ula()).err().unwrap() {
            StoreError::Database { .. } => std::thread::yield_now(),
            e => break e.to_string(),
        }
    };
    assert!(e.contains("belongs to instance test, not other"), "{e}");
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), vec![7; 9000]).unwrap();
    let e = Store::open(dir.path(), "test", ula())
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("netd.redb") && !e.contains('\n'), "{e}");
}
