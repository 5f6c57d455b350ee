//! The measurement of podwork's volume cache and the official one, with the same tree.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ring::digest::{Context as Hash, SHA256};

use crate::contenders::programs::{Contender, Programs};
use crate::error::Result;

/// The number of small files, and the maximum size of each, in bytes.
const SMALL: (usize, usize) = (10_000, 16 * 1024);
/// The number of large files, and the size of each, in bytes.
const LARGE: (usize, usize) = (8, 32 * 1024 * 1024);
/// The number of small files that change before `SyncFew`.
const FEW: usize = 10;

/// The measured steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CacheStep {
    SyncAll,
    SyncNothing,
    SyncFew,
    HydrateAll,
    HydrateNothing,
}

impl CacheStep {
    pub(crate) const ALL: [Self; 5] = [
        Self::SyncAll,
        Self::SyncNothing,
        Self::SyncFew,
        Self::HydrateAll,
        Self::HydrateNothing,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SyncAll => "sync to an empty volume",
            Self::SyncNothing => "sync with nothing new",
            Self::SyncFew => "sync of 10 small files that changed",
            Self::HydrateAll => "hydrate an empty directory",
            Self::HydrateNothing => "hydrate an up-to-date directory",
        }
    }

    fn call(self) -> &'static str {
        match self {
            Self::SyncAll | Self::SyncNothing | Self::SyncFew => "sync",
            Self::HydrateAll | Self::HydrateNothing => "hydrate",
        }
    }
}

/// The storage of the tree and the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CacheStorage {
    Memory,
    Disk,
}

impl CacheStorage {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Memory => "in memory",
            Self::Disk => "on disk",
        }
    }

    /// Creates a folder in the storage. Returns `None` if this machine does not have this storage.
    fn folder(self) -> Result<Option<tempfile::TempDir>> {
        let memory = Path::new("/dev/shm");
        Ok(match self {
            Self::Memory if !memory.is_dir() => None,
            Self::Memory => Some(tempfile::tempdir_in(memory)?),
            Self::Disk => Some(tempfile::tempdir()?),
        })
    }
}

/// The times of all rounds, in seconds.
pub(crate) type Times = BTreeMap<(CacheStorage, CacheStep, Contender), Vec<f64>>;

/// Measures all steps in all storages, once for each contender. A different contender is first in each round: a disk is
/// slower after the files of the previous contender were removed.
pub(crate) fn measure(
    programs: &Programs,
    round: usize,
    shrink: usize,
    times: &mut Times,
) -> Result<()> {
    for place in CacheStorage::ALL {
        for contender in Contender::turns(round) {
            let Some(folder) = place.folder()? else {
                continue;
            };
            let steps = steps(programs, contender, folder.path(), shrink)
                .map_err(|error| format!("cache, {contender}: {error}"))?;
            for (step, took) in steps {
                times
                    .entry((place, step, contender))
                    .or_default()
                    .push(took);
            }
        }
    }
    Ok(())
}

fn steps(
    programs: &Programs,
    contender: Contender,
    folder: &Path,
    shrink: usize,
) -> Result<Vec<(CacheStep, f64)>> {
    let mut times = Vec::new();
    if programs.cache_command(contender).is_none() {
        return Ok(times);
    }
    let (tree, volume) = (folder.join("cached"), folder.join("volume"));
    fs::create_dir(&volume)?;
    make_tree(&tree, shrink)?;
    for step in CacheStep::ALL {
        match step {
            CacheStep::SyncFew => change_few(&tree)?,
            CacheStep::HydrateAll => fs::rename(&tree, folder.join("before"))?,
            _ => {}
        }
        if let Some(command) = programs.cache_command(contender) {
            times.push((step, run(command, step.call(), &tree, &volume)?));
        }
    }
    if sums(&tree)? != sums(&folder.join("before"))? {
        return Err("the restored files differ from the original ones".into());
    }
    Ok(times)
}

fn run(mut command: Command, call: &str, tree: &Path, volume: &Path) -> Result<f64> {
    let output = command.arg(call).arg(tree).arg(volume).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let took = said.lines().last().and_then(|line| line.parse().ok());
    match took {
        Some(took) if output.status.success() => Ok(took),
        _ => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            Err(format!("{call} failed ({}): {said}{complaint}", output.status).into())
        }
    }
}

/// Returns pseudo-random bytes, the same for the same seed.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
}

fn small(number: usize) -> String {
    format!("{}/{}/{number}.o", number % 16, number % 100)
}

fn make_tree(tree: &Path, shrink: usize) -> Result<()> {
    let (count, most) = SMALL;
    let bytes: Vec<u8> = noise(1).take(2 * most).collect();
    for number in 0..count / shrink {
        let path = tree.join(small(number));
        fs::create_dir_all(path.parent().ok_or("the path has no parent folder")?)?;
        let (begin, len) = (number % most, number * 7919 % most);
        fs::write(path, &bytes[begin..begin + len])?;
    }
    let (count, len) = LARGE;
    fs::create_dir_all(tree.join("large"))?;
    for number in 0..count {
        let bytes: Vec<u8> = noise(number as u64).take(len / shrink).collect();
        fs::write(tree.join(format!("large/{number}")), bytes)?;
    }
    Ok(())
}

fn change_few(tree: &Path) -> Result<()> {
    for number in 0..FEW {
        let mut file = File::options()
            .append(true)
            .open(tree.join(small(number)))?;
        file.write_all(b"more")?;
    }
    Ok(())
}

/// Returns the checksum of each file.
fn sums(tree: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut sums = BTreeMap::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut hash = Hash::new(&SHA256);
            hash.update(&fs::read(&path)?);
            let inner = path.strip_prefix(tree)?.to_owned();
            sums.insert(inner, hash.finish().as_ref().to_owned());
        }
    }
    Ok(sums)
}
