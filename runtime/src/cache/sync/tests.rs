use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use super::*;

/// Directories of several workers, and the store that they share.
struct SharedStore<const N: usize> {
    _folder: tempfile::TempDir,
    store: CacheStore,
    directories: [Vec<Directory>; N],
    bad: BadObjects,
    stop: CancellationToken,
}

impl<const N: usize> SharedStore<N> {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let directories = std::array::from_fn(|number| {
            let path = folder.path().join(number.to_string());
            fs::create_dir(&path).unwrap();
            Directory::all(&[path], &volume).unwrap()
        });
        Self {
            store: CacheStore::open(&volume, "test").unwrap(),
            _folder: folder,
            directories,
            bad: BadObjects::default(),
            stop: CancellationToken::new(),
        }
    }

    fn syncs(&self) -> [SyncRun<'_>; N] {
        self.directories.each_ref().map(|directories| SyncRun {
            store: &self.store,
            directories,
            small_below: 1000,
            threads: 1,
            base: None,
            bad: &self.bad,
            stop: &self.stop,
        })
    }

    fn write(&self, of: usize, text: &str) {
        let directory = &self.directories[of][0];
        fs::write(directory.path.join("file"), text).unwrap();
    }
}

#[test]
fn an_object_that_is_readable_again_is_not_rewritten() {
    let mut place = SharedStore::<1>::new();
    place.write(0, "0");
    place.syncs()[0].run().unwrap();
    let objects = place.store.read(1).unwrap().unwrap().objects;
    let objects: HashSet<String> = objects.into_keys().collect();
    place.bad.unreadable.clone_from(&objects);
    let (synced, _) = place.syncs()[0].run().unwrap();
    assert_eq!((synced.files, synced.unchanged), (0, 1));
    place.bad.damaged = objects;
    let (synced, _) = place.syncs()[0].run().unwrap();
    assert_eq!((synced.files, synced.unchanged), (1, 0));
}

#[test]
fn a_generation_that_was_published_despite_an_error_keeps_its_objects() {
    let place = SharedStore::<1>::new();
    place.write(0, "0");
    let [sync] = place.syncs();
    let trees: Vec<_> = sync.directories.iter().map(Directory::walk).collect();
    let (mut written, mut batch) = (WrittenFiles::new(), ObjectBatch::of(&place.store));
    let prepare = sync.prepare(&trees, &mut written, &mut batch);
    let prepared = prepare.unwrap().unwrap();
    // A network volume may repeat a link call that succeeded, and then report that the name exists.
    let next = &prepared.plan.next;
    let new = place.store.propose(batch.name.as_deref(), next).unwrap();
    fs::rename(new, place.store.manifest(1)).unwrap();
    assert!(sync.finish(prepared, &mut batch).unwrap().is_none());
    let prepare = sync.prepare(&trees, &mut written, &mut batch);
    let prepared = prepare.unwrap().unwrap();
    let (synced, _) = sync.finish(prepared, &mut batch).unwrap().unwrap();
    assert_eq!(synced.generation, Some(1));
    drop(batch);
    let latest = place.store.read(1).unwrap().unwrap();
    for (object, len) in &latest.objects {
        assert!(place.store.has(object, *len).unwrap(), "{object}");
    }
}

#[test]
fn a_sync_overtaken_by_many_others_starts_over() {
    let place = SharedStore::<2>::new();
    let [slow, fast] = place.syncs();
    let store = &place.store;
    place.write(1, "0");
    fast.run().unwrap();

    place.write(0, "slow");
    let trees: Vec<_> = slow.directories.iter().map(Directory::walk).collect();
    let (mut written, mut batch) = (WrittenFiles::new(), ObjectBatch::of(store));
    let prepare = slow.prepare(&trees, &mut written, &mut batch);
    let prepared = prepare.unwrap().unwrap();
    for round in 1..=6 {
        // Old enough to be removed, so that its number is free again.
        let then = SystemTime::now() - Duration::from_hours(2);
        let latest = File::open(store.manifest(round)).unwrap();
        latest
            .set_times(FileTimes::new().set_modified(then))
            .unwrap();
        place.write(1, &round.to_string());
        assert_eq!(fast.run().unwrap().0.generation, Some(round + 1));
    }
    assert!(slow.finish(prepared, &mut batch).unwrap().is_none());
    let prepare = slow.prepare(&trees, &mut written, &mut batch);
    let prepared = prepare.unwrap().unwrap();
    let (synced, _) = slow.finish(prepared, &mut batch).unwrap().unwrap();
    assert_eq!((synced.files, synced.generation), (1, Some(8)));
    let latest = store.read(8).unwrap().unwrap();
    assert_eq!(latest.roots.len(), 2);
    for (object, len) in &latest.objects {
        assert!(store.has(object, *len).unwrap(), "{object}");
    }
}
