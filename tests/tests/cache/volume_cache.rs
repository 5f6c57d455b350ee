//! Tests of directories that are cached on a volume: what is kept, how little is written, and the effect of damage.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use podwork::cache::{CacheError, Hydrated, Synced, VolumeCache};
use podwork::testing::TestWorker;
use podwork::{Worker, handler};
use podwork_tests::within_a_minute;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A volume and a cached directory.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("volume")).unwrap();
        fs::create_dir(folder.path().join("cached")).unwrap();
        Self { folder }
    }

    fn volume(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    fn cached(&self) -> PathBuf {
        self.folder.path().join("cached")
    }

    fn store(&self) -> PathBuf {
        self.volume().join(".podwork-cache/test")
    }

    /// Creates the cache of a worker that has just started.
    fn cache(&self) -> VolumeCache {
        let cache = VolumeCache::new([self.cached()]);
        cache.volume(self.volume()).name("test")
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.cached().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.cached().join(path)).unwrap()
    }

    /// Deletes the cached directory, as in a new container.
    fn empty(&self) {
        if self.cached().exists() {
            fs::remove_dir_all(self.cached()).unwrap();
        }
    }

    /// Deletes the cached directory and hydrates it, as in a new container.
    async fn fresh(&self) -> Hydrated {
        self.empty();
        self.cache().hydrate().await
    }

    async fn sync(&self) -> Synced {
        self.cache().sync().await
    }

    /// Returns the files on the volume and their sizes.
    fn on_volume(&self) -> BTreeMap<PathBuf, u64> {
        let mut files = BTreeMap::new();
        walk(&self.store(), &mut |path| {
            files.insert(path.to_owned(), path.symlink_metadata().unwrap().len());
        });
        files
    }

    /// Returns the path of the only large file on the volume.
    fn large(&self) -> PathBuf {
        let mut files = self.on_volume().into_keys();
        files.find(|path| path.extension().is_none()).unwrap()
    }

    /// Returns the only file on the volume whose path ends with `end`.
    fn object(&self, end: &str) -> PathBuf {
        let files = self.on_volume().into_keys();
        let mut found = files.filter(|path| path.to_string_lossy().ends_with(end));
        let first = found.next().unwrap();
        assert_eq!(found.next(), None);
        first
    }
}

fn walk(folder: &Path, see: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), see);
        } else {
            see(&entry.path());
        }
    }
}

/// Returns the contents of a directory: the bytes, time and permissions of files, and the targets of links.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64, u32)> {
    let mut all = BTreeMap::new();
    walk(folder, &mut |path| {
        let found = path.symlink_metadata().unwrap();
        let entry = if found.is_symlink() {
            let target = fs::read_link(path).unwrap();
            (target.into_os_string().into_encoded_bytes(), 0, 0, 0)
        } else {
            let bytes = fs::read(path).unwrap();
            (bytes, found.mtime(), found.mtime_nsec(), found.mode())
        };
        all.insert(path.to_owned(), entry);
    });
    all
}

/// Sets the modification time of a file to `by` before now.
fn age(path: &Path, by: Duration) {
    let times = FileTimes::new().set_modified(SystemTime::now() - by);
    File::open(path).unwrap().set_times(times).unwrap();
}

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

const SMALL: usize = 10_000;
const LARGE: [usize; 5] = [262_144, 300_000, 1_048_576, 4_194_305, 9_000_001];

#[tokio::test]
async fn ten_thousand_files_are_restored_bit_by_bit() {
    let place = Place::new();
    let mut random_sizes = fastrand::Rng::with_seed(7);
    for number in 0..SMALL {
        let path = format!("{}/{}/{number}.o", number % 13, number % 101);
        place.write(&path, random(number as u64, random_sizes.usize(0..3000)));
    }
    for (number, size) in LARGE.into_iter().enumerate() {
        place.write(&format!("large/{number}"), random(number as u64, size));
    }
    let long = format!("{}/{}", "long".repeat(30), "name".repeat(40));
    place.write(&long, "at the end of a long path");
    let program = place.cached().join("0/0/0.o");
    fs::set_permissions(&program, Permissions::from_mode(0o751)).unwrap();
    age(&program, Duration::new(86_400 * 365 * 60, 123_456_789)); // before 1970
    symlink("../large/3", place.cached().join("0/link")).unwrap();
    let before = contents(&place.cached());

    let synced = place.sync().await;
    assert!(synced.problem.is_none(), "{synced:?}");
    let files = (SMALL + LARGE.len() + 1) as u64;
    assert_eq!((synced.files, synced.unchanged), (files, 0));
    let objects = place.on_volume().len();
    assert!(objects < 20, "small files are packed: {objects}");

    let hydrated = place.fresh().await;
    assert!(hydrated.problem.is_none(), "{hydrated:?}");
    assert_eq!((hydrated.files, hydrated.bytes), (files + 1, synced.bytes)); // plus the link
    assert!(contents(&place.cached()) == before, "the same, bit by bit");

    // Files that exist are neither restored nor written again.
    let hydrated = place.cache().hydrate().await;
    assert_eq!((hydrated.files, hydrated.kept), (0, files));
    let volume = place.on_volume();
    let again = place.sync().await;
    assert_eq!((again.files, again.unchanged), (0, files));
    assert_eq!(again.generation, synced.generation);
    assert_eq!(
        place.on_volume(),
        volume,
        "nothing is written if nothing changed"
    );

    // A sync writes only the files that changed.
    place.write("1/1/1.o", "changed");
    place.write("new", "new");
    let few = place.sync().await;
    assert_eq!((few.files, few.unchanged), (2, files - 1));
    assert_eq!(few.generation, Some(2));
    let old: Vec<_> = volume.keys().collect();
    let added: u64 = place
        .on_volume()
        .iter()
        .filter(|(path, _)| !old.contains(path) && path.extension() != Some("json".as_ref()))
        .map(|(_, size)| size)
        .sum();
    assert!(added < 10_000, "{added} bytes for two small files");
    let before = contents(&place.cached());
    place.fresh().await;
    assert!(contents(&place.cached()) == before);
}

#[tokio::test]
async fn a_pack_is_a_plain_tar_archive() {
    let place = Place::new();
    place.write("deep/a.txt", "first");
    place.write("b.txt", "second");
    place.sync().await;
    let out = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xf")
        .arg(place.object(".tar"))
        .arg("-C")
        .arg(out.path());
    assert!(tar.status().unwrap().success());
    let cached = place.cached();
    let inside = out.path().join(cached.strip_prefix("/").unwrap());
    assert_eq!(fs::read(inside.join("deep/a.txt")).unwrap(), b"first");
    let mtime = |folder: &Path| folder.join("b.txt").metadata().unwrap().mtime();
    assert_eq!(mtime(&inside), mtime(&cached));
}

#[tokio::test]
async fn without_a_volume_or_a_name_nothing_is_done() {
    let place = Place::new();
    place.write("a", "a");
    let cache = VolumeCache::new([place.cached()])
        .name("x")
        .volume("/no/volume");
    let problem = cache.sync().await.problem;
    assert!(
        matches!(problem, Some(CacheError::NoVolume { .. })),
        "{problem:?}"
    );
    let problem = cache.hydrate().await.problem;
    assert!(
        matches!(problem, Some(CacheError::NoVolume { .. })),
        "{problem:?}"
    );
    let unnamed = VolumeCache::new([place.cached()]).volume(place.volume());
    let problem = unnamed.sync().await.problem;
    assert!(matches!(problem, Some(CacheError::NoName)), "{problem:?}");
    for name in ["", "..", "a/b", ".hidden", "a\0b"] {
        let problem = unnamed.clone().name(name).sync().await.problem;
        assert!(
            matches!(problem, Some(CacheError::Name { .. })),
            "{name}: {problem:?}"
        );
    }
    // The volume may exist but be inaccessible.
    let endless = place.folder.path().join("endless");
    symlink("endless", &endless).unwrap();
    let problem = place.cache().volume(endless).sync().await.problem;
    assert!(
        matches!(problem, Some(CacheError::File { .. })),
        "{problem:?}"
    );
    let link = place.folder.path().join("link");
    symlink(place.volume(), &link).unwrap();
    for inside in [place.volume(), link] {
        let inside = VolumeCache::new([inside.join("not/there")]).volume(place.volume());
        let problem = inside.name("x").sync().await.problem;
        assert!(
            matches!(problem, Some(CacheError::Directory { .. })),
            "{problem:?}"
        );
    }
    assert_eq!(fs::read_dir(place.volume()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_volume_that_cannot_be_written_is_a_warning() {
    let place = Place::new();
    place.write("a", "a");
    let synced = place.cache().volume("/proc").sync().await;
    assert!(
        matches!(synced.problem, Some(CacheError::File { .. })),
        "{synced:?}"
    );
    assert_eq!((synced.files, synced.generation), (0, None));
}

#[tokio::test]
async fn only_older_files_are_replaced() {
    let place = Place::new();
    for name in ["same", "older", "newer", "gone"] {
        place.write(name, "from the volume");
    }
    place.sync().await;
    for name in ["older", "newer"] {
        place.write(name, "from the image");
    }
    age(&place.cached().join("older"), Duration::from_hours(1));
    fs::remove_file(place.cached().join("gone")).unwrap();
    let hydrated = place.cache().hydrate().await;
    assert_eq!((hydrated.files, hydrated.kept), (2, 2));
    assert_eq!(place.read("older"), "from the volume");
    assert_eq!(place.read("gone"), "from the volume");
    assert_eq!(place.read("newer"), "from the image");
    assert_eq!(place.sync().await.files, 1);
}

/// Workers whose cached directories have the same path: a link, which a test switches between their folders.
struct Shared {
    place: Place,
    link: PathBuf,
}

impl Shared {
    fn new() -> Self {
        let place = Place::new();
        let link = place.folder.path().join("link");
        Self { place, link }
    }

    fn cache(&self) -> VolumeCache {
        let cache = VolumeCache::new([&self.link]).volume(self.place.volume());
        cache.name("test")
    }

    /// Points the link to the folder of the worker `name`, and returns that folder.
    fn become_of(&self, name: &str) -> PathBuf {
        let folder = self.place.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        // The link does not exist the first time.
        let _ = fs::remove_file(&self.link);
        symlink(&folder, &self.link).unwrap();
        folder
    }
}

#[tokio::test]
async fn the_files_of_several_workers_are_merged() {
    let shared = Shared::new();
    let (one, other) = (shared.cache(), shared.cache());
    let first = shared.become_of("one");
    fs::write(first.join("shared"), "1").unwrap();
    fs::write(first.join("unwanted"), "1").unwrap();
    one.sync().await;
    shared.become_of("other");
    assert_eq!(other.hydrate().await.files, 2);

    // Each worker adds files, and neither deletes files that it never had.
    fs::write(shared.become_of("one").join("by-one"), "1").unwrap();
    one.sync().await;
    let second = shared.become_of("other");
    fs::write(second.join("by-other"), "2").unwrap();
    assert_eq!(other.sync().await.files, 1);
    // A worker that had a file and deleted it deletes it from the cache.
    fs::remove_file(second.join("unwanted")).unwrap();
    assert_eq!(other.sync().await.removed, 1);
    // A file that the other worker changed is not reverted.
    fs::write(second.join("shared"), "later").unwrap();
    other.sync().await;
    fs::remove_file(first.join("unwanted")).unwrap();
    shared.become_of("one");
    assert_eq!(one.sync().await.files, 0);

    let third = shared.become_of("third");
    assert_eq!(shared.cache().hydrate().await.files, 3);
    let names: Vec<_> = contents(&third).into_keys().collect();
    let expected = ["by-one", "by-other", "shared"].map(|name| third.join(name));
    assert_eq!(names, expected);
    assert_eq!(fs::read(third.join("shared")).unwrap(), b"later");
}

#[tokio::test]
async fn a_stale_worker_does_not_delete_what_another_changed() {
    let shared = Shared::new();
    let (one, other) = (shared.cache(), shared.cache());
    let first = shared.become_of("one");
    fs::write(first.join("file"), "at first").unwrap();
    symlink("file", first.join("to")).unwrap();
    one.sync().await;
    let second = shared.become_of("other");
    assert_eq!(other.hydrate().await.files, 2);
    fs::write(second.join("file"), "another's since").unwrap();
    fs::remove_file(second.join("to")).unwrap();
    symlink("nowhere", second.join("to")).unwrap();
    assert_eq!(other.sync().await.files, 1);

    shared.become_of("one");
    fs::remove_file(first.join("file")).unwrap();
    fs::remove_file(first.join("to")).unwrap();
    assert_eq!(one.sync().await.removed, 0);
    let third = shared.become_of("third");
    assert_eq!(shared.cache().hydrate().await.files, 2);
    assert_eq!(fs::read(third.join("file")).unwrap(), b"another's since");
    assert_eq!(
        fs::read_link(third.join("to")).unwrap(),
        Path::new("nowhere")
    );
}

#[tokio::test]
async fn the_later_of_two_changes_is_kept() {
    let shared = Shared::new();
    let (one, other) = (shared.cache(), shared.cache());
    let file = shared.become_of("one").join("file");
    fs::write(&file, "at first").unwrap();
    one.sync().await;
    let its = shared.become_of("other").join("file");
    assert_eq!(other.hydrate().await.files, 1);

    // Both workers change the file.
    fs::write(&its, "the later change").unwrap();
    other.sync().await;
    shared.become_of("one");
    fs::write(&file, "the earlier change").unwrap();
    age(&file, Duration::from_mins(1));
    assert_eq!(one.sync().await.files, 0);
    let third = shared.become_of("third").join("file");
    shared.cache().hydrate().await;
    assert_eq!(fs::read(&third).unwrap(), b"the later change");

    // If only one worker changes the file, the change counts even if its time is older.
    shared.become_of("other");
    fs::write(&its, "restored").unwrap();
    age(&its, Duration::from_hours(1));
    assert_eq!(other.sync().await.files, 1);
    // A worker that still has the previous version does not revert that change.
    let cache = shared.cache();
    shared.become_of("fourth");
    cache.hydrate().await;
    shared.become_of("other");
    fs::write(&its, "restored again").unwrap();
    age(&its, Duration::from_hours(2));
    assert_eq!(other.sync().await.files, 1);
    shared.become_of("fourth");
    assert_eq!(cache.sync().await.files, 0);
    let fifth = shared.become_of("fifth").join("file");
    shared.cache().hydrate().await;
    assert_eq!(fs::read(fifth).unwrap(), b"restored again");
}

#[tokio::test]
async fn a_file_and_a_folder_of_the_same_name_do_not_conflict() {
    let shared = Shared::new();
    let first = shared.become_of("one");
    fs::write(first.join("a"), "a file").unwrap();
    fs::create_dir(first.join("b")).unwrap();
    fs::write(first.join("b/file"), "in a folder").unwrap();
    shared.cache().sync().await;
    let second = shared.become_of("other");
    fs::create_dir(second.join("a")).unwrap();
    for file in ["a/file", "b", "c"] {
        fs::write(second.join(file), "of the other").unwrap();
    }
    let synced = shared.cache().sync().await;
    assert_eq!(synced.files, 3, "{synced:?}");
    let third = shared.become_of("third");
    let hydrated = shared.cache().hydrate().await;
    assert!(hydrated.problem.is_none(), "{hydrated:?}");
    assert_eq!((hydrated.files, hydrated.kept), (3, 0));
    let names: Vec<_> = contents(&third).into_keys().collect();
    assert_eq!(names, ["a/file", "b", "c"].map(|name| third.join(name)));

    // This holds even if a manifest lists both.
    let place = Place::new();
    for file in ["a", "b", "c"] {
        place.write(file, file);
    }
    place.sync().await;
    let mut body = latest(&place);
    let files = &mut body["roots"][place.cached().to_str().unwrap()]["files"];
    files["a/file"] = files["b"].take();
    files.as_object_mut().unwrap().remove("b");
    forge(&place.object(".json"), &body);
    let hydrated = place.fresh().await;
    assert!(hydrated.problem.is_none(), "{hydrated:?}");
    assert_eq!((hydrated.files, hydrated.kept, hydrated.bytes), (2, 1, 2));
    assert_eq!((place.read("a"), place.read("c")), ("a".into(), "c".into()));
}

#[tokio::test]
async fn files_that_could_not_be_restored_do_not_count_as_deleted() {
    let place = Place::new();
    for file in ["hub/a", "hub/b", "file", "inside/c", "whole"] {
        place.write(file, "from the volume");
    }
    symlink("whole", place.cached().join("link")).unwrap();
    assert_eq!(place.sync().await.files, 5);
    // A new image has links, folders and a file in the places of these files.
    place.empty();
    let (cached, outside) = (place.cached(), place.folder.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(cached.join("file")).unwrap();
    fs::create_dir_all(cached.join("link")).unwrap();
    symlink(&outside, cached.join("hub")).unwrap();
    symlink("file", cached.join("inside")).unwrap();
    let cache = place.cache();
    let hydrated = cache.hydrate().await;
    assert_eq!((hydrated.files, hydrated.kept), (1, 4), "{hydrated:?}");
    let synced = cache.sync().await;
    assert_eq!(synced.removed, 0, "{synced:?}");
    // A restored file that is deleted locally is deleted from the cache.
    fs::remove_file(cached.join("whole")).unwrap();
    assert_eq!(cache.sync().await.removed, 1);
    let hydrated = place.fresh().await;
    assert!(hydrated.problem.is_none(), "{hydrated:?}");
    for file in ["hub/a", "hub/b", "file", "inside/c"] {
        assert_eq!(place.read(file), "from the volume");
    }
    let link = fs::read_link(place.cached().join("link")).unwrap();
    assert_eq!(link, Path::new("whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_syncs_lose_no_files() {
    const WORKERS: usize = 4;
    const ROUNDS: usize = 6;
    let place = Place::new();
    let workers = (0..WORKERS).map(|worker| {
        let (folder, volume) = (
            place.folder.path().join(format!("w{worker}")),
            place.volume(),
        );
        tokio::spawn(async move {
            fs::create_dir(&folder).unwrap();
            let cache = VolumeCache::new([&folder]).volume(volume).name("test");
            for round in 0..ROUNDS {
                fs::write(folder.join(round.to_string()), format!("{worker} {round}")).unwrap();
                // A sync that loses the race too often returns `Busy`; retry it.
                while let Some(problem) = cache.sync().await.problem {
                    assert!(matches!(problem, CacheError::Busy { .. }), "{problem}");
                }
            }
            folder
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut folders = Vec::new();
    for worker in workers {
        folders.push(worker.await.unwrap());
    }
    let mut before = BTreeMap::new();
    for folder in &folders {
        before.extend(contents(folder));
        fs::remove_dir_all(folder).unwrap();
    }
    let cache = VolumeCache::new(folders.clone()).volume(place.volume());
    let hydrated = cache.name("test").hydrate().await;
    assert_eq!(hydrated.files, (WORKERS * ROUNDS) as u64, "{hydrated:?}");
    assert_eq!(hydrated.generation, Some((WORKERS * ROUNDS) as u64));
    let mut after = BTreeMap::new();
    for folder in &folders {
        after.extend(contents(folder));
    }
    assert!(before == after);
}

#[tokio::test]
async fn packs_stay_few() {
    let place = Place::new();
    let cache = place.cache();
    for number in 0..60 {
        place.write(&format!("{number}"), random(number, 5000));
        assert_eq!(
            cache
                .sync()
                .await
                .problem
                .map(|problem| problem.to_string()),
            None
        );
    }
    let manifest = latest(&place);
    let packs = manifest["objects"].as_object().unwrap().len();
    assert!(packs <= 18, "{packs}");
    // Packs whose files were replaced are rewritten as well.
    for number in 0..60 {
        place.write(&format!("{number}"), random(number + 100, 5000));
    }
    let generation = cache.sync().await.generation.unwrap();
    assert_eq!(place.fresh().await.files, 60);
    // All manifests are kept, so that their numbers are never reused: a sync that started from an old generation
    // must still fail to publish its own.
    let manifests = fs::read_dir(place.store().join("manifests")).unwrap();
    assert_eq!(manifests.count() as u64, generation);
}

#[tokio::test]
async fn packs_that_others_use_are_not_rewritten_repeatedly() {
    let place = Place::new();
    // These packs belong to workers that no longer exist.
    for number in 0..20 {
        let folder = place.folder.path().join(format!("old-{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "old").unwrap();
        let cache = VolumeCache::new([folder]).volume(place.volume());
        assert_eq!(cache.name("test").sync().await.files, 1);
    }
    let cache = place.cache();
    place.write("file", "new");
    assert_eq!(cache.sync().await.files, 1);
    assert_eq!(cache.sync().await.files, 0);
    place.write("more", "new");
    assert_eq!(cache.sync().await.files, 1);
}

/// Returns the body of the latest manifest.
fn latest(place: &Place) -> Value {
    let mut manifests: Vec<_> = place.on_volume().into_keys().collect();
    manifests.retain(|path| path.extension() == Some("json".as_ref()));
    let text = fs::read_to_string(manifests.last().unwrap()).unwrap();
    serde_json::from_str(text.lines().nth(1).unwrap()).unwrap()
}

#[tokio::test]
async fn unused_files_are_deleted_after_a_while() {
    let place = Place::new();
    place.write("large", random(1, 400_000));
    let cache = place.cache();
    cache.sync().await;
    // Two killed workers left files: one long ago, one just now.
    let store = place.store();
    for name in ["dead", "alive"] {
        let batch = store.join("objects").join(name);
        fs::create_dir(&batch).unwrap();
        fs::write(batch.join("1"), "half a fi").unwrap();
        fs::write(store.join(format!("manifests/.new-{name}")), "{").unwrap();
    }
    let aged = ["objects/dead/1", "objects/dead", "manifests/.new-dead"];
    for path in aged {
        age(&store.join(path), Duration::from_hours(2));
    }
    for round in 0..6 {
        place.write("large", random(round + 2, 400_000));
        assert_eq!(cache.sync().await.files, 1);
        // Simulate that two hours have passed for everything but the batch `alive`.
        for entry in fs::read_dir(store.join("objects")).unwrap() {
            let batch = entry.unwrap();
            if batch.file_name() != "alive" {
                walk(&batch.path(), &mut |path| {
                    age(path, Duration::from_hours(2));
                });
                age(&batch.path(), Duration::from_hours(2));
            }
        }
        let generation = format!("manifests/{:020}.json", round + 1);
        age(&store.join(generation), Duration::from_hours(2));
    }
    let batches: Vec<_> = fs::read_dir(store.join("objects"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(batches.contains(&"alive".to_owned()));
    assert!(!batches.contains(&"dead".to_owned()));
    assert_eq!(
        batches.len(),
        1 + 4,
        "the batches of four generations: {batches:?}"
    );
    let manifests: Vec<_> = fs::read_dir(store.join("manifests")).unwrap().collect();
    assert_eq!(manifests.len(), 4 + 1);
    assert_eq!(place.fresh().await.files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_during_a_sync_is_not_recorded() {
    let place = Place::new();
    place.write("still", "still");
    let growing = place.cached().join("growing");
    fs::write(&growing, random(3, 8_000_000)).unwrap();
    let over = std::sync::Arc::new(AtomicBool::new(false));
    let (begun, writing) = std::sync::mpsc::channel();
    let writer = std::thread::spawn({
        let (over, growing) = (over.clone(), growing.clone());
        move || {
            let mut file = File::options().append(true).open(growing).unwrap();
            while !over.load(Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
                // Only the first message is received.
                let _ = begun.send(());
            }
        }
    });
    writing.recv().unwrap();
    let synced = place.sync().await;
    assert_eq!((synced.files, synced.unsettled), (1, 1), "{synced:?}");
    over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    // Once the file no longer changes, it is recorded.
    let whole = fs::read(&growing).unwrap();
    let synced = place.sync().await;
    assert_eq!((synced.files, synced.unsettled), (1, 0), "{synced:?}");
    place.fresh().await;
    assert!(fs::read(growing).unwrap() == whole);
}

#[tokio::test]
async fn a_change_with_the_same_size_at_the_same_moment_is_detected() {
    let place = Place::new();
    let cache = place.cache();
    for round in 0..40 {
        place.write("file", format!("{round:02}"));
        assert_eq!(cache.sync().await.files, 1, "{round}");
    }
    place.fresh().await;
    assert_eq!(place.read("file"), "39");
}

#[tokio::test]
async fn outside_links_pipes_and_locks_are_not_cached() {
    let place = Place::new();
    let secret = place.folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    place.write("a", "a");
    place.write("a.lock", "");
    place.write(".lock", "");
    let cached = place.cached();
    symlink(&secret, cached.join("absolute")).unwrap();
    symlink("../secret", cached.join("up")).unwrap();
    symlink("..", cached.join("folder")).unwrap();
    symlink("a", cached.join("inside")).unwrap();
    symlink("./a", cached.join("too")).unwrap();
    let pipe = Command::new("mkfifo").arg(cached.join("pipe")).status();
    assert!(pipe.unwrap().success());
    assert_eq!(place.sync().await.files, 1);
    place.fresh().await;
    let names: Vec<_> = contents(&cached).into_keys().collect();
    assert_eq!(names, ["a", "inside", "too"].map(|name| cached.join(name)));
}

#[tokio::test]
async fn nothing_is_written_through_a_local_link() {
    let place = Place::new();
    place.write("folder/file", "from the volume");
    place.write("other", "from the volume");
    place.sync().await;
    place.empty();
    let outside = place.folder.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir(place.cached()).unwrap();
    symlink(&outside, place.cached().join("folder")).unwrap();
    symlink(outside.join("target"), place.cached().join("other")).unwrap();
    let hydrated = place.cache().hydrate().await;
    assert_eq!((hydrated.files, hydrated.kept), (0, 2));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

/// A function that damages a valid volume.
type Damage = fn(&Place);

#[tokio::test]
async fn damaged_files_are_not_used_and_are_then_replaced() {
    let damages: &[(&str, Damage)] = &[
        ("a pack cut short", |place| {
            let pack = place.object(".tar");
            let file = File::options().write(true).open(&pack).unwrap();
            file.set_len(pack.len_of() / 2).unwrap();
        }),
        ("a byte of a pack", |place| flip(&place.object(".tar"), 512)),
        ("a byte of a large file", |place| {
            flip(&place.large(), 200_000);
        }),
        ("no large file", |place| {
            fs::remove_file(place.large()).unwrap();
        }),
        ("a large file cut short", |place| {
            let file = File::options().write(true).open(place.large());
            file.unwrap().set_len(5).unwrap();
        }),
        ("a large file that is a link", |place| {
            let (object, copy) = (place.large(), place.folder.path().join("copy"));
            fs::rename(&object, &copy).unwrap();
            symlink(copy, object).unwrap();
        }),
        ("a batch that is a link", |place| {
            let object = place.large();
            let (batch, copy) = (object.parent().unwrap(), place.folder.path().join("copy"));
            fs::rename(batch, &copy).unwrap();
            symlink(copy, batch).unwrap();
        }),
        ("a pack that is a pipe", |place| {
            let pack = place.object(".tar");
            fs::remove_file(&pack).unwrap();
            let pipe = Command::new("mkfifo").arg(pack).status();
            assert!(pipe.unwrap().success());
        }),
        ("a manifest cut short", |place| {
            let file = File::options().write(true).open(place.object(".json"));
            file.unwrap().set_len(300).unwrap();
        }),
        ("a byte of a manifest", |place| {
            flip(&place.object(".json"), 200);
        }),
        ("garbage for a manifest", |place| {
            fs::write(place.object(".json"), random(5, 5000)).unwrap();
        }),
        ("an empty manifest", |place| {
            fs::write(place.object(".json"), "").unwrap();
        }),
    ];
    for (what, damage) in damages {
        let place = Place::new();
        place.write("small", "small");
        place.write("also/small", "2");
        place.write("large", random(1, 400_000));
        let before = contents(&place.cached());
        assert_eq!(place.sync().await.files, 3, "{what}");
        damage(&place);

        let kept = place.folder.path().join("kept");
        fs::rename(place.cached(), &kept).unwrap();
        let cache = place.cache();
        let hydrated = cache.hydrate().await;
        let problem = hydrated.problem.as_ref();
        assert!(
            matches!(problem, Some(CacheError::Damaged { .. })),
            "{what}: {problem:?}"
        );
        assert_eq!((hydrated.files, hydrated.generation), (0, None), "{what}");
        assert!(contents(&place.cached()).is_empty(), "{what}");

        // The worker creates the files again.
        place.empty();
        fs::rename(&kept, place.cached()).unwrap();
        let synced = cache.sync().await;
        assert!(synced.problem.is_none(), "{what}: {synced:?}");
        let hydrated = place.fresh().await;
        assert!(hydrated.problem.is_none(), "{what}: {hydrated:?}");
        assert!(contents(&place.cached()) == before, "{what}");
    }
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Adds a file size method to paths.
trait Length {
    fn len_of(&self) -> u64;
}

impl Length for PathBuf {
    fn len_of(&self) -> u64 {
        self.symlink_metadata().unwrap().len()
    }
}

#[tokio::test]
async fn a_damaged_generation_falls_back_to_the_previous_one() {
    let place = Place::new();
    place.write("large", random(1, 300_000));
    place.sync().await;
    let first = contents(&place.cached());
    let known = place.on_volume();
    place.write("large", random(2, 300_000));
    place.sync().await;
    let new = place.on_volume().into_keys();
    let mut new = new.filter(|path| !known.contains_key(path) && path.extension().is_none());
    flip(&new.next().unwrap(), 77);
    let hydrated = place.fresh().await;
    assert_eq!(hydrated.generation, Some(1));
    assert!(
        matches!(hydrated.problem, Some(CacheError::Damaged { .. })),
        "{hydrated:?}"
    );
    assert!(contents(&place.cached()) == first);
}

#[tokio::test]
async fn an_unreadable_manifest_falls_back_to_the_previous_one() {
    let place = Place::new();
    place.write("file", "file");
    place.sync().await;
    let second = place.store().join(format!("manifests/{:020}.json", 2));
    let _socket = UnixListener::bind(second).unwrap();
    let hydrated = place.fresh().await;
    assert_eq!((hydrated.files, hydrated.generation), (1, Some(1)));
    assert!(
        matches!(hydrated.problem, Some(CacheError::Damaged { .. })),
        "{hydrated:?}"
    );
    place.write("new", "new");
    let synced = place.sync().await;
    assert_eq!((synced.files, synced.generation), (1, Some(3)));
    assert_eq!(place.fresh().await.files, 2);
}

#[tokio::test]
async fn an_unreadable_object_is_kept_and_does_not_block_hydration() {
    let place = Place::new();
    place.write("file", "file");
    place.sync().await;
    // No file system accepts such a long name, so even looking it up fails.
    let mut body = latest(&place);
    let object = format!("{}/1", "a".repeat(300));
    body["objects"][&object] = json!(4);
    let mut entry = body["roots"][place.cached().to_str().unwrap()]["files"]["file"].clone();
    (entry["object"], entry["at"]) = (json!(object), json!(0));
    body["roots"][place.cached().to_str().unwrap()]["files"]["other"] = entry;
    let second = place.store().join(format!("manifests/{:020}.json", 2));
    forge(&second, &body);
    let before = place.on_volume();

    let hydrated = place.fresh().await;
    assert_eq!((hydrated.files, hydrated.generation), (1, Some(1)));
    let problem = hydrated.problem;
    assert!(
        matches!(problem, Some(CacheError::File { .. })),
        "{problem:?}"
    );
    place.write("new", "new");
    let problem = place.sync().await.problem;
    assert!(
        matches!(problem, Some(CacheError::File { .. })),
        "{problem:?}"
    );
    assert_eq!(place.on_volume(), before);
}

#[tokio::test]
async fn files_with_invalid_manifest_names_are_ignored() {
    let place = Place::new();
    place.write("file", "file");
    place.sync().await;
    for name in ["99", "+99", "18446744073709551614", "18446744073709551615"] {
        let path = place.store().join(format!("manifests/{name}.json"));
        fs::write(path, "{}").unwrap();
    }
    place.write("more", "more");
    assert_eq!(place.sync().await.generation, Some(2));
    let hydrated = place.fresh().await;
    assert!(hydrated.problem.is_none(), "{hydrated:?}");
    assert_eq!((hydrated.files, hydrated.generation), (2, Some(2)));
}

/// Writes a manifest with the given body and a valid checksum.
fn forge(manifest: &Path, body: &Value) {
    let body = body.to_string();
    let sum = digest(&SHA256, body.as_bytes());
    let digits = sum.as_ref().iter();
    let sum = digits.fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"));
    let header = json!({"podwork-cache": 1, "sha256": sum});
    fs::write(manifest, format!("{header}\n{body}\n")).unwrap();
}

#[tokio::test]
async fn a_manifest_with_paths_outside_the_cache_restores_nothing() {
    let place = Place::new();
    place.write("file", "file");
    place.sync().await;
    let good = latest(&place);
    let directory = place.cached().to_str().unwrap().to_owned();
    let entry = good["roots"][&directory]["files"]["file"].clone();
    let with_file = |name: &str| {
        let mut body = good.clone();
        body["roots"][&directory]["files"] = json!({name: entry});
        body
    };
    let with_link = |name: &str, to: &str| {
        let mut body = good.clone();
        body["roots"][&directory]["links"] = json!({name: to});
        body
    };
    let mut with_object = good.clone();
    with_object["objects"] = json!({"../../../secret": 100});
    let mut past_the_end = good.clone();
    past_the_end["roots"][&directory]["files"]["file"]["at"] = json!(1_u64 << 40);
    let bodies = [
        with_file("../outside"),
        with_file("/tmp/outside"),
        with_file("a/../../outside"),
        with_file(""),
        with_link("out", "/etc"),
        with_link("out", "../outside"),
        with_object,
        past_the_end,
    ];
    for body in bodies {
        forge(&place.object(".json"), &body);
        let hydrated = place.fresh().await;
        assert!(
            matches!(hydrated.problem, Some(CacheError::Damaged { .. })),
            "{body}"
        );
        assert!(contents(&place.cached()).is_empty(), "{body}");
        assert!(!place.folder.path().join("outside").exists());
    }
    // A directory that is not cached here is not restored either.
    let mut elsewhere = good.clone();
    let root = elsewhere["roots"][&directory].clone();
    elsewhere["roots"] = json!({place.folder.path().join("outside").to_str().unwrap(): root});
    forge(&place.object(".json"), &elsewhere);
    assert_eq!(place.fresh().await.files, 0);
    assert!(!place.folder.path().join("outside").exists());
    forge(&place.object(".json"), &good);
    assert_eq!(place.fresh().await.files, 1);
}

#[tokio::test]
async fn a_newer_format_is_left_unchanged() {
    let place = Place::new();
    place.write("file", "file");
    place.sync().await;
    let manifest = place.object(".json");
    fs::write(&manifest, "{\"podwork-cache\":2}\n???").unwrap();
    let before = place.on_volume();
    let problem = place.cache().hydrate().await.problem;
    assert!(
        matches!(problem, Some(CacheError::Newer { format: 2, .. })),
        "{problem:?}"
    );
    place.write("more", "more");
    let problem = place.sync().await.problem;
    assert!(
        matches!(problem, Some(CacheError::Newer { format: 2, .. })),
        "{problem:?}"
    );
    assert_eq!(place.on_volume(), before);
}

#[tokio::test]
async fn background_syncs_are_coalesced() {
    let place = Place::new();
    place.write("a", "a");
    let cache = place.cache();
    for _ in 0..1000 {
        cache.sync_in_background();
    }
    // Let the queued sync start first.
    tokio::task::yield_now().await;
    let synced = cache.sync().await;
    assert_eq!((synced.files, synced.generation), (0, Some(1)));
}

#[test]
fn a_background_sync_dropped_by_its_runtime_does_not_block_later_ones() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build();
    let place = Place::new();
    place.write("a", "a");
    let cache = place.cache();
    let first = runtime().unwrap();
    first.block_on(async { cache.sync_in_background() });
    drop(first);
    let synced = runtime().unwrap().block_on(async {
        cache.sync_in_background();
        // Let the queued sync start first.
        tokio::task::yield_now().await;
        cache.sync().await
    });
    assert_eq!((synced.files, synced.generation), (0, Some(1)));
}

static SET_UPS: AtomicUsize = AtomicUsize::new(0);

/// A model. The field is true if the model was compiled, and false if it came from the cache.
struct Model(bool);

#[handler]
async fn was_compiled(model: &Model) -> bool {
    model.0
}

/// Adds a file unless it exists. A file that every job rewrites might never be stable enough to sync.
#[handler]
async fn compile(path: PathBuf, _model: &Model) -> podwork::Result<()> {
    if !path.exists() {
        fs::write(path, "compiled")?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_hydrates_before_setup_and_syncs_on_shutdown() {
    let place = Place::new();
    let kernel = place.cached().join("kernel");
    let load = || {
        let kernel = kernel.clone();
        move || {
            SET_UPS.fetch_add(1, Ordering::Relaxed);
            let compile = !kernel.exists();
            if compile {
                fs::write(&kernel, "compiled").unwrap();
            }
            Model(compile)
        }
    };
    let cache = || VolumeCache::new([place.cached()]).volume(place.volume());

    let name = [("RUNPOD_ENDPOINT_ID", "captions")];
    let worker = Worker::new::<compile>()
        .env(name)
        .cache(cache())
        .setup(load());
    let worker = TestWorker::start(worker).await.unwrap();
    let by_job = place.cached().join("by-job");
    worker.run(json!(by_job)).await.unwrap().result.unwrap();
    worker.stop().await.unwrap();

    // Start a later worker in a new container.
    place.empty();
    let worker = Worker::new::<was_compiled>()
        .env(name)
        .cache(cache())
        .setup(load());
    let worker = TestWorker::start(worker).await.unwrap();
    let job = worker.run(json!(null)).await.unwrap();
    assert_eq!(job.result.unwrap(), json!(false));
    assert_eq!(fs::read(&by_job).unwrap(), b"compiled");
    worker.stop().await.unwrap();

    // Without a volume, the worker runs as usual.
    place.empty();
    fs::create_dir(place.cached()).unwrap();
    let worker = Worker::new::<was_compiled>().env(name);
    let worker = worker.cache(cache().volume("/no/volume")).setup(load());
    let worker = TestWorker::start(worker).await.unwrap();
    let job = worker.run(json!(null)).await.unwrap();
    assert_eq!(job.result.unwrap(), json!(true));
    worker.stop().await.unwrap();
    assert_eq!(SET_UPS.load(Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_syncs_the_files_of_a_job() {
    let place = Place::new();
    let cache = place.cache().interval(Duration::ZERO);
    let worker = Worker::new::<compile>().cache(cache).state(Model(false));
    let worker = TestWorker::start(worker).await.unwrap();
    let by_job = place.cached().join("by-job");
    let first = place
        .store()
        .join("manifests")
        .join(format!("{:020}.json", 1));
    // The sync runs in the background, while jobs run.
    let syncing = async {
        while !first.exists() {
            let job = worker.run(json!(by_job)).await.unwrap();
            job.result.unwrap();
        }
    };
    within_a_minute(syncing).await;
    worker.stop().await.unwrap();
    assert_eq!(place.fresh().await.files, 1);
}
