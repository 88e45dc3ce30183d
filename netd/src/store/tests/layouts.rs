//! Stores of other layouts.

use super::disk::Disk;
use super::*;

/// Records as layout 1 had them: of a netd that knew the fewest fields, and of one that knew all.
const LAYOUT_1: &str = include_str!("layout-1.json");

fn rows(json: &serde_json::Value) -> Disk {
    let disk = Disk::default();
    let db = Database::builder()
        .create_with_backend(disk.clone())
        .unwrap();
    let write = db.begin_write().unwrap();
    for (name, rows) in json.as_object().unwrap() {
        if name == "meta" {
            let table: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
            let mut table = write.open_table(table).unwrap();
            table.insert("meta", rows.to_string().as_bytes()).unwrap();
            continue;
        }
        let table: redb::TableDefinition<u32, &[u8]> = redb::TableDefinition::new(name);
        let mut table = write.open_table(table).unwrap();
        for row in rows.as_array().unwrap() {
            let number = row["number"].as_u64().unwrap() as u32;
            table.insert(number, row.to_string().as_bytes()).unwrap();
        }
    }
    write.commit().unwrap();
    drop(db);
    disk
}

#[test]
fn an_older_layout_becomes_the_present_one_at_once_or_not_at_all() {
    let old = serde_json::from_str(LAYOUT_1).unwrap();
    let disk = rows(&old);
    let before = disk.image().bytes.clone();
    let check = |d: &Desired| {
        assert_eq!((d.meta.schema, d.meta.next_number), (SCHEMA, 9));
        assert_eq!(d.networks.len(), 2);
        let first = &d.networks[&1];
        assert_eq!(
            (first.aging, first.storm, first.any_ethertype),
            (300, 2_000, false)
        );
        assert_eq!(first.options, crate::model::masquerade::Options::default());
        assert_eq!(d.networks[&2].storm, 7, "what was said stays");
        assert_eq!(d.endpoints[&3].macs, netd_api::Macs::default());
        assert_eq!(d.publishes[&4].owner, "cli");
        assert_eq!(d.publishes[&5].owner, "file:shop");
    };
    let (db, d) = disk.open().unwrap();
    check(&d);
    drop(db);
    let (_, again) = disk.open().unwrap();
    check(&again);

    for at in 0.. {
        let disk = Disk::of(before.clone());
        disk.image().left = Some(at);
        if disk.open().is_ok() {
            assert!(at > 3, "it writes something");
            break;
        }
        let bytes = disk.image().bytes.clone();
        let (_, d) = Disk::of(bytes).open().unwrap();
        check(&d);
    }
}

#[test]
fn a_newer_layout_and_another_instance_are_refused_and_left_as_they_are() {
    let mut json: serde_json::Value = serde_json::from_str(LAYOUT_1).unwrap();
    json["meta"]["schema"] = (SCHEMA + 1).into();
    json["meta"]["more"] = "something".into();
    let refused = |json: &serde_json::Value| {
        let disk = rows(json);
        let line = disk.open().err().unwrap().to_string();
        let found = |disk: &Disk| {
            let db = Database::builder()
                .create_with_backend(disk.clone())
                .unwrap();
            let read = redb::ReadableDatabase::begin_read(&db).unwrap();
            let table: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
            let table = read.open_table(table).unwrap();
            let meta = table.get("meta").unwrap().unwrap();
            serde_json::from_slice::<serde_json::Value>(meta.value()).unwrap()
        };
        assert_eq!(found(&disk), json["meta"]);
        line
    };
    let line = refused(&json);
    assert!(
        line.contains("by a newer netd (layout 3, this one knows up to 2)"),
        "{line}"
    );
    json["meta"]["schema"] = 1.into();
    json["meta"]["instance"] = "other".into();
    let line = refused(&json);
    assert!(
        line.contains("belongs to instance other, not test"),
        "{line}"
    );
}

#[test]
fn the_file_of_an_older_layout_is_kept_for_the_netd_that_wrote_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = rows(&serde_json::from_str(LAYOUT_1).unwrap());
    std::fs::write(dir.path().join(FILE), &disk.image().bytes).unwrap();
    drop(reopen(dir.path()));
    let kept = std::fs::read(dir.path().join("netd.redb.layout-1")).unwrap();
    let db = Database::builder()
        .create_with_backend(Disk::of(kept))
        .unwrap();
    let read = redb::ReadableDatabase::begin_read(&db).unwrap();
    let table: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let table = read.open_table(table).unwrap();
    let meta = table.get("meta").unwrap().unwrap();
    let meta: serde_json::Value = serde_json::from_slice(meta.value()).unwrap();
    assert_eq!(meta["schema"], 1);
    let all: Vec<String> = Store::files().collect();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(all.contains(&name), "{name} would be left behind");
    }
}
