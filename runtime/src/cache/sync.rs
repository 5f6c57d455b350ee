//! From the local directories to the volume: the next generation.

use std::collections::{BTreeMap, HashSet};

use tokio_util::sync::CancellationToken;

use super::manifest::{Manifest, Root};
use super::pack::{self, LITTLE, LITTLE_PACKS, Packed, Source};
use super::parallel::each;
use super::plan::{Plan, View, Written};
use super::report::{CacheError, Synced};
use super::store::{Bad, Store};
use super::tree::{Directory, Tree};

/// How often it begins anew because another worker was faster.
const TRIES: usize = 10;

/// What was done, and what the directories hold of the cache; `None` if that came too late.
type Done = Option<(Synced, BTreeMap<String, Root>)>;

/// What a sync goes by.
pub(super) struct Sync<'a> {
    pub(super) store: &'a Store,
    pub(super) directories: &'a [Directory],
    pub(super) small_below: u64,
    pub(super) threads: usize,
    /// What was in the directories when they were last the same as the cache, if they were.
    pub(super) base: Option<&'a BTreeMap<String, Root>>,
    pub(super) bad: &'a Bad,
    pub(super) stop: &'a CancellationToken,
}

impl Sync<'_> {
    /// Writes what is new; what was done, and what the directories hold of the cache.
    pub(super) fn run(&self) -> Result<(Synced, BTreeMap<String, Root>), CacheError> {
        let trees: Vec<Tree> = self.directories.iter().map(Directory::walk).collect();
        let mut batch = Batch::of(self.store);
        let mut written = Written::new();
        for _ in 0..TRIES {
            if let Some(prepared) = self.prepare(&trees, &mut written, &mut batch)?
                && let Some(done) = self.finish(prepared, &mut batch)?
            {
                return Ok(done);
            }
        }
        Err(CacheError::Busy { tries: TRIES })
    }

    /// Writes what is not written yet, and knows what the next generation is; `None` if others sync meanwhile.
    fn prepare<'a>(
        &'a self,
        trees: &'a [Tree],
        written: &mut Written<'a>,
        batch: &mut Batch<'_>,
    ) -> Result<Option<Prepared<'a>>, CacheError> {
        if self.stop.is_cancelled() {
            return Err(CacheError::Stopped);
        }
        let Some((latest, current, is_whole)) = self.latest()? else {
            return Ok(None);
        };
        let is_there = self.objects_there(&current)?;
        let mut plan = self.plan(trees, &current, &is_there, written);
        if !plan.missing.is_empty() {
            let missing = std::mem::take(&mut plan.missing);
            let name = batch.name(&current)?;
            written.extend(self.write(missing, &name, &mut batch.objects)?);
            plan = self.plan(trees, &current, &is_there, written);
        }
        let is_new = plan.next != current || !is_whole;
        Ok(Some(Prepared {
            latest,
            is_new,
            plan,
        }))
    }

    /// Publishes it, if anything is new; `None` if others were faster.
    fn finish(&self, prepared: Prepared<'_>, batch: &mut Batch<'_>) -> Result<Done, CacheError> {
        let Plan {
            next,
            held,
            mut synced,
            ..
        } = prepared.plan;
        synced.generation = prepared.latest;
        if prepared.is_new {
            let new = self.store.propose(batch.name.as_deref(), &next);
            // Where nothing was to be written before, no room was made yet.
            let new = new.inspect_err(|_| self.store.sweep(&next))?;
            // Whoever does not hear how that went may have succeeded.
            batch.published = true;
            let Some(generation) = self.store.publish(&new, prepared.latest)? else {
                batch.published = false;
                return Ok(None);
            };
            synced.generation = Some(generation);
            self.store.sweep(&next);
        } else if let Some(name) = &batch.name {
            // It was published, though the answer said that others were faster.
            let is_of_it = |object: &String| object.split('/').next() == Some(name);
            batch.published |= next.objects.keys().any(is_of_it);
        }
        Ok(Some((synced, held)))
    }

    /// The number of the latest generation, the latest that can be read, and whether that is the same; `None` if there
    /// are later ones by now.
    fn latest(&self) -> Result<Option<(Option<u64>, Manifest, bool)>, CacheError> {
        let generations = self.store.generations()?;
        let latest = generations.first().copied();
        for &generation in &generations {
            match self.store.read(generation) {
                Ok(Some(manifest)) => {
                    let is_whole = Some(generation) == latest;
                    return Ok(Some((latest, manifest, is_whole)));
                }
                // Then an earlier one is gone on from.
                Err(CacheError::Damaged { .. }) => {}
                // It was swept.
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some((latest, Manifest::default(), latest.is_none())))
    }

    /// The objects that can be referred to.
    fn objects_there<'a>(&self, manifest: &'a Manifest) -> Result<HashSet<&'a str>, CacheError> {
        let objects: Vec<_> = manifest.objects.iter().collect();
        let there = each(self.threads, self.stop, &objects, |_, (name, len)| {
            let is_there = !self.bad.damaged.contains(*name)
                && self.store.has(name, **len)?
                && (!self.bad.unread.contains(*name) || self.store.is_readable(name, **len)?);
            Ok(is_there.then_some(name.as_str()))
        })?;
        Ok(there.into_iter().flatten().collect())
    }

    /// Writes files into new objects.
    fn write<'a>(
        &self,
        files: Vec<Source<'a>>,
        batch: &str,
        objects: &mut usize,
    ) -> Result<Written<'a>, CacheError> {
        // What changes a file again within a tick of its clock would not show.
        if let Some(youngest) = files.iter().map(|file| file.found.unsettled_for()).max() {
            std::thread::sleep(youngest);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let tasks = pack::tasks(files, self.small_below, cores.min(self.threads));
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|task| {
                *objects += 1;
                let is_pack = matches!(task, pack::Task::Pack(_));
                let end = if is_pack { pack::PACKED } else { "" };
                (format!("{batch}/{objects}{end}"), task)
            })
            .collect();
        let packed = each(self.threads, self.stop, &tasks, |buffer, (object, task)| {
            pack::write(self.store, object, task, buffer, self.stop)
        })?;
        let packed = packed.into_iter().flatten();
        let written = |Packed { source, written }: Packed<'a>| {
            ((source.directory.name.as_str(), source.path), written)
        };
        Ok(packed.map(written).collect())
    }

    /// What the next generation is. Files that others brought stay; a file goes only where it was seen, and deleted.
    fn plan<'a>(
        &'a self,
        trees: &'a [Tree],
        current: &Manifest,
        is_there: &HashSet<&str>,
        written: &Written<'a>,
    ) -> Plan<'a> {
        let worn = self.worn(trees, current);
        let mut plan = Plan::default();
        let none = Root::default();
        for (directory, tree) in self.directories.iter().zip(trees) {
            let name = directory.name.as_str();
            let view = View {
                directory,
                tree,
                current,
                root: current.roots.get(name).unwrap_or(&none),
                base: self.base.and_then(|base| base.get(name)).unwrap_or(&none),
                is_there,
            };
            for (path, found) in &tree.files {
                plan.add(&view, path, *found, written.get(&(name, path)), &worn);
            }
            plan.add_those_of_others(&view);
            plan.add_links(&view);
        }
        // Of directories that only others cache.
        for (name, root) in &current.roots {
            if self
                .directories
                .iter()
                .any(|directory| directory.name == *name)
            {
                continue;
            }
            for (path, entry) in &root.files {
                if is_there.contains(entry.object.as_str()) {
                    plan.keep(current, name, path, entry.clone());
                }
            }
            plan.link(name, root.links.clone());
        }
        plan
    }

    /// Packs that are to be packed anew: of which less than half is in use, or of which there are too many. Only those
    /// that this empties: all that is used of them is here.
    fn worn<'a>(&self, trees: &[Tree], manifest: &'a Manifest) -> HashSet<&'a str> {
        let mut used: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for (name, root) in &manifest.roots {
            let mut all = self.directories.iter().zip(trees);
            let tree = all.find(|(directory, _)| directory.name == *name);
            for (path, entry) in &root.files {
                if entry.object.ends_with(pack::PACKED) {
                    let found = tree.and_then(|(_, tree)| tree.files.get(path));
                    let (len, is_here) = used.entry(&entry.object).or_insert((0, true));
                    *len += pack::len_in_pack(name, path, entry.size);
                    *is_here &= found.is_some_and(|found| found.stamp == entry.stamp());
                }
            }
        }
        let len = |object: &str| manifest.objects.get(object).copied().unwrap_or_default();
        used.retain(|_, (_, is_here)| *is_here);
        let little = used.keys().filter(|object| len(object) < LITTLE).count();
        let is_worn = |(object, (used, _)): &(&str, (u64, bool))| {
            let len = len(object);
            // An archive has an end, which counts in a short one.
            used * 2 + 4096 < len || (little > LITTLE_PACKS && len < LITTLE)
        };
        let worn = used.into_iter().filter(is_worn);
        worn.map(|(object, _)| object).collect()
    }
}

/// What is about to be published.
struct Prepared<'a> {
    /// After this one.
    latest: Option<u64>,
    is_new: bool,
    plan: Plan<'a>,
}

/// The objects of this sync; removed again where no generation came of it.
struct Batch<'a> {
    store: &'a Store,
    name: Option<String>,
    objects: usize,
    published: bool,
}

impl<'a> Batch<'a> {
    fn of(store: &'a Store) -> Self {
        Self {
            store,
            name: None,
            objects: 0,
            published: false,
        }
    }

    /// Its name. Before the first is written there is made room: on a full volume nothing else would ever do it.
    fn name(&mut self, current: &Manifest) -> Result<String, CacheError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        self.store.sweep(current);
        Ok(self.name.insert(self.store.new_batch()?).clone())
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let (Some(name), false) = (&self.name, self.published) {
            self.store.discard(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes};
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Directories of several workers, and the store that they share.
    struct Place<const N: usize> {
        _folder: tempfile::TempDir,
        store: Store,
        directories: [Vec<Directory>; N],
        bad: Bad,
        stop: CancellationToken,
    }

    impl<const N: usize> Place<N> {
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
                store: Store::open(&volume, "test").unwrap(),
                _folder: folder,
                directories,
                bad: Bad::default(),
                stop: CancellationToken::new(),
            }
        }

        fn syncs(&self) -> [Sync<'_>; N] {
            self.directories.each_ref().map(|directories| Sync {
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
    fn what_can_be_read_again_is_not_written_anew() {
        let mut place = Place::<1>::new();
        place.write(0, "0");
        place.syncs()[0].run().unwrap();
        let objects = place.store.read(1).unwrap().unwrap().objects;
        let objects: HashSet<String> = objects.into_keys().collect();
        place.bad.unread.clone_from(&objects);
        let (synced, _) = place.syncs()[0].run().unwrap();
        assert_eq!((synced.files, synced.unchanged), (0, 1));
        place.bad.damaged = objects;
        let (synced, _) = place.syncs()[0].run().unwrap();
        assert_eq!((synced.files, synced.unchanged), (1, 0));
    }

    #[test]
    fn what_was_published_though_nobody_said_so_stays() {
        let place = Place::<1>::new();
        place.write(0, "0");
        let [sync] = place.syncs();
        let trees: Vec<_> = sync.directories.iter().map(Directory::walk).collect();
        let (mut written, mut batch) = (Written::new(), Batch::of(&place.store));
        let prepare = sync.prepare(&trees, &mut written, &mut batch);
        let prepared = prepare.unwrap().unwrap();
        // As a volume does that has linked, and tells of a name that is there already when it is asked again.
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
    fn a_sync_that_others_overtake_by_far_goes_round_again() {
        let place = Place::<2>::new();
        let [slow, fast] = place.syncs();
        let store = &place.store;
        place.write(1, "0");
        fast.run().unwrap();

        place.write(0, "of the slow one");
        let trees: Vec<_> = slow.directories.iter().map(Directory::walk).collect();
        let (mut written, mut batch) = (Written::new(), Batch::of(store));
        let prepare = slow.prepare(&trees, &mut written, &mut batch);
        let prepared = prepare.unwrap().unwrap();
        for round in 1..=6 {
            // As if hours passed, so that its number is free again.
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
}
