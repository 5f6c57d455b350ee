//! Tests of caches whose writers and readers are killed at random, run concurrently, or run out of space. The tests
//! print their seed. `PODWORK_CACHE_SEED` sets the seed, and `PODWORK_CACHE_KILLS` the number of kills (default: 15).

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use podwork::cache::{CacheError, VolumeCache};

/// The cached directory. The path is the same in each process, but leads to a different folder.
const CACHED: &str = "/proc/self/cwd/cached";
const SMALL: usize = 80;
const FILES: usize = SMALL + 4;
/// One file in `TURNS` changes from each state to the next.
const TURNS: usize = 5;

/// Returns the content of a file that last changed in `state`.
fn content(file: usize, state: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed((file * 1_000_003 + state) as u64);
    let len = if file < SMALL {
        random.usize(0..5000)
    } else {
        random.usize(300_000..900_000)
    };
    let mut bytes = format!("{file} {state}\n").into_bytes();
    let text = bytes.len();
    bytes.resize(text + len, 0);
    random.fill(&mut bytes[text..]);
    bytes
}

/// Returns the state in which a file last changed, as of `state`.
fn since(file: usize, state: usize) -> usize {
    let back = (state + TURNS - file % TURNS) % TURNS;
    state.saturating_sub(back)
}

fn path(file: usize) -> String {
    format!("{}/{file}.bin", file % 7)
}

fn write(folder: &Path, file: usize, state: usize) {
    let path = folder.join(path(file));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content(file, since(file, state))).unwrap();
}

/// Returns the state of each file that exists, after checking that its content is complete.
fn states(folder: &Path) -> BTreeMap<usize, usize> {
    let mut states = BTreeMap::new();
    for file in 0..FILES {
        let Ok(bytes) = fs::read(folder.join(path(file))) else {
            continue;
        };
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap();
        let line = std::str::from_utf8(line).unwrap();
        let (of, state) = line.split_once(' ').unwrap();
        let state: usize = state.parse().unwrap();
        assert_eq!(of, file.to_string());
        assert!(
            bytes == content(file, state),
            "file {file} of state {state} is torn"
        );
        states.insert(file, state);
    }
    states
}

/// Returns the state that all files share, or `None` if there are no files.
fn whole_state(folder: &Path) -> Option<usize> {
    let states = states(folder);
    let state = *states.values().max()?;
    let expected = (0..FILES).map(|file| (file, since(file, state)));
    assert_eq!(states, expected.collect(), "all files share one state");
    Some(state)
}

/// Returns whether the folder holds no temporary files.
fn is_clean(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.all(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
}

fn cache() -> VolumeCache {
    let volume = std::env::var("CACHE_VOLUME").unwrap();
    VolumeCache::new([CACHED]).volume(volume).name("crashes")
}

fn argument() -> usize {
    std::env::var("CACHE_ARGUMENT").unwrap().parse().unwrap()
}

/// Formats an error and its cause.
fn with_cause(error: CacheError) -> String {
    let cause = error.source().map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

/// Runs the role of a child process of these tests. Without a role, as in a run of all tests, it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    match std::env::var("CACHE_ROLE").as_deref() {
        Ok("sync") => {
            let (first, folder) = (argument(), PathBuf::from(CACHED));
            (0..FILES).for_each(|file| write(&folder, file, first));
            let cache = cache();
            for state in first + 1.. {
                let changed = (0..FILES).filter(|file| file % TURNS == state % TURNS);
                changed.for_each(|file| write(&folder, file, state));
                let synced = cache.sync().await;
                assert!(synced.problem.is_none(), "{synced:?}");
                println!("\nCHILD {state}");
            }
        }
        Ok("sync-once") => {
            let synced = cache().sync().await;
            println!("\nCHILD {:?}", synced.problem.map(with_cause));
        }
        Ok("hydrate") => {
            let hydrated = cache().hydrate().await;
            println!("\nCHILD {:?}", hydrated.problem.map(with_cause));
        }
        Ok("hydrate-often") => {
            let folder = PathBuf::from(CACHED);
            let mut last = 0;
            for _ in 0..argument() {
                // The folder does not exist the first time.
                let _ = fs::remove_dir_all(&folder);
                let hydrated = cache().hydrate().await;
                assert!(hydrated.problem.is_none(), "{hydrated:?}");
                let state = whole_state(&folder).unwrap();
                assert!(state >= last, "{state} after {last}");
                last = state;
            }
            println!("\nCHILD {last}");
        }
        _ => {}
    }
}

/// A folder with a volume and the containers that share it.
struct World {
    folder: tempfile::TempDir,
    containers: usize,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("volume")).unwrap();
        let containers = 0;
        Self { folder, containers }
    }

    fn container(&mut self) -> PathBuf {
        self.containers += 1;
        let folder = self.folder.path().join(self.containers.to_string());
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn command(&self, program: &mut Command, container: &Path, role: &str, argument: usize) {
        program
            .args(["crashes::child", "--exact", "--nocapture"])
            .current_dir(container)
            .env("CACHE_VOLUME", self.folder.path().join("volume"))
            .env("CACHE_ROLE", role)
            .env("CACHE_ARGUMENT", argument.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
    }

    fn start(&self, container: &Path, role: &str, argument: usize) -> Child {
        let mut program = Command::new(std::env::current_exe().unwrap());
        self.command(&mut program, container, role, argument);
        program.spawn().unwrap()
    }

    /// Runs a child process until it exits, and returns its last report.
    fn run(&self, container: &Path, role: &str) -> String {
        said(self.start(container, role, 0)).pop().unwrap()
    }

    /// Hydrates a new container, and returns its state.
    fn check(&mut self) -> Option<usize> {
        let container = self.container();
        assert_eq!(self.run(&container, "hydrate"), "None");
        let state = whole_state(&container.join("cached"));
        assert!(is_clean(&container.join("cached")));
        fs::remove_dir_all(container).unwrap();
        state
    }

    fn batches(&self) -> usize {
        let objects = self
            .folder
            .path()
            .join("volume/.podwork-cache/crashes/objects");
        fs::read_dir(objects).map_or(0, Iterator::count)
    }
}

/// Returns the reports of a process, which must exit successfully or be killed.
fn said(mut child: Child) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok);
    let said = said.filter_map(|line| line.strip_prefix("CHILD ").map(ToOwned::to_owned));
    let said = said.collect();
    let ended = child.wait().unwrap();
    assert!(
        ended.success() || ended.code().is_none(),
        "{ended}: {said:?}"
    );
    said
}

fn seeded() -> fastrand::Rng {
    let given = std::env::var("PODWORK_CACHE_SEED").ok();
    let seed = given.map_or_else(
        || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs()
        },
        |seed| seed.parse().unwrap(),
    );
    println!("PODWORK_CACHE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn kills() -> usize {
    std::env::var("PODWORK_CACHE_KILLS").map_or(15, |kills| kills.parse().unwrap())
}

/// Kills a process at a random moment within `time`, and returns its reports.
fn kill_within(mut child: Child, random: &mut fastrand::Rng, time: Duration) -> Vec<String> {
    // The test needs a random moment, so it sleeps instead of waiting for a condition.
    std::thread::sleep(time.mul_f64(random.f64()));
    // The process may already have exited.
    let _ = child.kill();
    said(child)
}

#[test]
fn a_killed_writer_leaves_a_complete_generation() {
    let mut random = seeded();
    let mut world = World::new();
    let (mut next, mut known) = (0, None);
    let mut seen = 0;
    for round in 0..kills() {
        let container = world.container();
        let writer = world.start(&container, "sync", next);
        let said = kill_within(writer, &mut random, Duration::from_millis(1500));
        let state = world.check();
        // The last reported state is on the volume, and no earlier state returns.
        let reported = said.last().map(|state| state.parse::<usize>().unwrap());
        assert!(
            state >= reported.or(known),
            "{state:?}, {reported:?}, {known:?}"
        );
        // The writer may have published one more state without reporting it.
        assert!(state <= Some(reported.unwrap_or(next) + 1), "{state:?}");
        known = state;
        next = known.unwrap_or(next).max(next) + TURNS;
        seen += said.len();
        fs::remove_dir_all(container).unwrap();
        // Each killed writer may leave one batch; all others belong to generations that are kept.
        assert!(world.batches() <= seen + round + 1);
    }
    assert!(known.is_some() && seen > 0, "some syncs completed");
}

#[test]
fn a_killed_reader_leaves_only_complete_files() {
    let mut random = seeded();
    let mut world = World::new();
    let container = world.container();
    (0..FILES).for_each(|file| write(&container.join("cached"), file, 9));
    assert_eq!(world.run(&container, "sync-once"), "None");
    let began = Instant::now();
    assert_eq!(world.check(), Some(9));
    let time = began.elapsed();
    let mut partial = 0;
    for _ in 0..kills() {
        let container = world.container();
        let reader = world.start(&container, "hydrate", 0);
        kill_within(reader, &mut random, time);
        let cached = container.join("cached");
        let there = states(&cached);
        assert!(there.iter().all(|(file, state)| *state == since(*file, 9)));
        partial += usize::from(!is_clean(&cached));
        // The container restarts.
        assert_eq!(world.run(&container, "hydrate"), "None");
        assert_eq!(whole_state(&cached), Some(9));
        assert!(is_clean(&cached));
        fs::remove_dir_all(container).unwrap();
    }
    println!("{partial} readers were killed while they wrote files");
}

#[test]
fn readers_see_one_state_while_others_write() {
    let mut world = World::new();
    let container = world.container();
    let mut writer = world.start(&container, "sync", 0);
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("CHILD ")));
    // Keep reading the output, so that a full pipe does not block the writer.
    let writing = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let container = world.container();
            world.start(&container, "hydrate-often", 25)
        })
        .collect();
    let seen: Vec<_> = readers.into_iter().map(said).collect();
    writer.kill().unwrap();
    writer.wait().unwrap();
    writing.join().unwrap();
    assert!(seen.iter().all(|said| said.len() == 1), "{seen:?}");
    assert!(world.check().is_some());
}

/// Runs a child process with a file size limit of `most` KiB, to simulate a full disk.
fn run_in_little_space(world: &World, container: &Path, role: &str, most: usize) -> String {
    let mut shell = Command::new("bash");
    shell
        .arg("-c")
        .arg(format!(
            "trap '' XFSZ; ulimit -f {most}; exec \"$0\" \"$@\""
        ))
        .arg(std::env::current_exe().unwrap());
    world.command(&mut shell, container, role, 0);
    said(shell.spawn().unwrap()).pop().unwrap()
}

#[test]
fn a_full_volume_keeps_its_last_generation() {
    let mut world = World::new();
    let container = world.container();
    let cached = container.join("cached");
    (0..FILES).for_each(|file| write(&cached, file, 4));
    assert_eq!(world.run(&container, "sync-once"), "None");
    (0..FILES).for_each(|file| write(&cached, file, 9));
    let said = run_in_little_space(&world, &container, "sync-once", 100);
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(
        world.batches(),
        1,
        "the unfinished batch of a failed sync is deleted"
    );
    assert_eq!(world.check(), Some(4));
    assert_eq!(world.run(&container, "sync-once"), "None");
    assert_eq!(world.check(), Some(9));
}

#[test]
fn leftovers_of_killed_syncs_are_deleted_on_a_full_volume() {
    let mut world = World::new();
    let objects = world
        .folder
        .path()
        .join("volume/.podwork-cache/crashes/objects");
    for (batch, hours) in [("dead", 2), ("alive", 0)] {
        let folder = objects.join(batch);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("1"), "half a fi").unwrap();
        let then = SystemTime::now() - Duration::from_hours(hours);
        for path in [folder.join("1"), folder] {
            let times = fs::FileTimes::new().set_modified(then);
            fs::File::open(path).unwrap().set_times(times).unwrap();
        }
    }
    let container = world.container();
    (0..FILES).for_each(|file| write(&container.join("cached"), file, 4));
    let said = run_in_little_space(&world, &container, "sync-once", 100);
    assert!(said.contains("File too large"), "{said}");
    let left = fs::read_dir(objects).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["alive"]);
}

#[test]
fn leftovers_of_killed_syncs_are_deleted_on_a_volume_without_inodes() {
    let mut world = World::new();
    let container = world.container();
    (0..FILES).for_each(|file| write(&container.join("cached"), file, 4));
    // Mount a separate volume and use up its inodes. The listing shows what is left of the dead batch.
    let script =
        "mount -t tmpfs -o nr_inodes=40 tmpfs \"$CACHE_VOLUME\" && echo CHILD mounted || exit 0
        objects=$CACHE_VOLUME/.podwork-cache/crashes/objects
        mkdir -p $objects/dead && touch $objects/dead/{1..20}
        touch -d '2 hours ago' $objects/dead/* $objects/dead
        number=0; while mkdir $CACHE_VOLUME/$((number += 1)) 2> /dev/null; do :; done
        \"$0\" \"$@\"
        echo \"CHILD $(ls -d $objects/dead 2>&1)\"";
    let mut shell = Command::new("bash");
    shell
        .args([
            "-c",
            "unshare -Urm bash -c \"$SCRIPT\" \"$0\" \"$@\" || exit 0",
        ])
        .arg(std::env::current_exe().unwrap())
        .env("SCRIPT", script);
    world.command(&mut shell, &container, "sync-once", 0);
    let said = said(shell.spawn().unwrap());
    match &said[..] {
        [_mounted, synced, left] => {
            assert_eq!(synced, "None");
            assert!(left.contains("No such file"), "{left}");
        }
        // Mounting is not permitted everywhere.
        [] => println!("skipped: cannot mount"),
        broken => panic!("{broken:?}"),
    }
}

#[test]
fn a_full_local_disk_receives_no_partial_files() {
    let mut world = World::new();
    let container = world.container();
    (0..FILES).for_each(|file| write(&container.join("cached"), file, 4));
    assert_eq!(world.run(&container, "sync-once"), "None");
    let container = world.container();
    let said = run_in_little_space(&world, &container, "hydrate", 100);
    assert!(said.contains("File too large"), "{said}");
    let cached = container.join("cached");
    assert!(states(&cached).is_empty() && is_clean(&cached));
    assert_eq!(world.run(&container, "hydrate"), "None");
    assert_eq!(whole_state(&cached), Some(4));
}
