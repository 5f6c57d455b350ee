//! The memory limit of this process's own control group, and of the groups that contain it.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// One of the two hierarchies of control groups that may limit memory.
struct Hierarchy {
    /// The file system type in `mountinfo`.
    fstype: &'static str,
    /// The controller that this hierarchy must have. Version 2 has a single hierarchy for all controllers.
    controller: Option<&'static str>,
    /// The usual mount point.
    mounted_at: &'static str,
    limit: &'static str,
    used: &'static str,
    /// The entry in `memory.stat` of the file pages that the kernel can drop.
    droppable: &'static str,
}

const HIERARCHIES: [Hierarchy; 2] = [
    Hierarchy {
        fstype: "cgroup2",
        controller: None,
        mounted_at: "/sys/fs/cgroup",
        limit: "memory.max",
        used: "memory.current",
        droppable: "inactive_file ",
    },
    Hierarchy {
        fstype: "cgroup",
        controller: Some("memory"),
        mounted_at: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        droppable: "total_inactive_file ",
    },
];

/// Returns the memory left within the limits that apply to this process, in bytes, or `None` if nothing limits
/// it. `root` is the root of the file system.
pub(super) fn memory_left(root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(under(root, path)).ok();
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let left = HIERARCHIES.iter().flat_map(|hierarchy| {
        let folders = hierarchy.folders(&groups, &mounts);
        folders.into_iter().filter_map(|folder| {
            left(
                &read(&folder.join(hierarchy.limit))?,
                &read(&folder.join(hierarchy.used))?,
                &read(&folder.join("memory.stat")).unwrap_or_default(),
                hierarchy.droppable,
            )
        })
    });
    left.min()
}

fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl Hierarchy {
    /// Returns the folders of the process's group and of all groups that contain it, as far as they are visible.
    fn folders(&self, groups: &str, mounts: &str) -> Vec<PathBuf> {
        let (mounted_root, mounted_at) = self
            .mount(mounts)
            .unwrap_or((Path::new("/"), Path::new(self.mounted_at)));
        // Without a namespace of its own, a container sees its group by the path on the host, but mounts only its own.
        let below = self.group(groups).strip_prefix(mounted_root);
        let below = below.unwrap_or(Path::new(""));
        let is_visible = below
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let own = mounted_at.join(if is_visible { below } else { Path::new("") });
        let visible = own
            .ancestors()
            .take_while(|folder| folder.starts_with(mounted_at));
        visible.map(Path::to_owned).collect()
    }

    /// Returns the path of the process's group, from a line such as `4:memory:/docker/1f` or `0::/docker/1f`.
    fn group<'a>(&self, groups: &'a str) -> &'a Path {
        let path = groups.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            let is_own = match self.controller {
                None => controllers.is_empty(),
                Some(controller) => controllers.split(',').any(|name| name == controller),
            };
            is_own.then_some(path)
        });
        Path::new(path.unwrap_or("/"))
    }

    /// Returns which group is mounted, and where.
    fn mount<'a>(&self, mounts: &'a str) -> Option<(&'a Path, &'a Path)> {
        mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut place = place.split(' ').skip(3);
            let (root, at) = (place.next()?, place.next()?);
            let mut kind = kind.split(' ');
            let is_own = kind.next()? == self.fstype
                && self.controller.is_none_or(|controller| {
                    let options = kind.nth(1).unwrap_or_default();
                    options.split(',').any(|option| option == controller)
                });
            is_own.then_some((Path::new(root), Path::new(at)))
        })
    }
}

/// Returns the limit minus the memory in use. File pages that the kernel can drop at once do not count as in use.
fn left(limit: &str, used: &str, stat: &str, droppable: &str) -> Option<u64> {
    // If there is no limit, version 2 reports `max`, and version 1 a number larger than the memory of any machine.
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let droppable = stat.lines().find_map(|line| line.strip_prefix(droppable));
    let droppable: u64 = droppable
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(droppable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    /// Returns the memory left on a machine with these files.
    fn left_with(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_left(root.path())
    }

    #[test]
    fn a_memory_limit_of_the_container_applies() {
        let stat = "anon 50\ninactive_file 30\nactive_file 7\n";
        assert_eq!(left("100\n", "60\n", stat, "inactive_file "), Some(70));
        assert_eq!(left("max\n", "60\n", stat, "inactive_file "), None);
        assert_eq!(left("10", "60", "", "inactive_file "), Some(0));
    }

    #[test]
    fn cgroup_v2_in_its_own_namespace() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/memory.max", "100\n"),
            ("sys/fs/cgroup/memory.current", "60\n"),
            ("sys/fs/cgroup/memory.stat", "inactive_file 5\n"),
        ];
        assert_eq!(left_with(&files), Some(45));
        assert_eq!(left_with(&files[2..]), Some(45), "without /proc");
    }

    #[test]
    fn the_smallest_limit_of_nested_cgroups_applies() {
        let nested = |inner, middle| {
            left_with(&[
                ("proc/self/cgroup", "0::/system.slice/worker.service/job\n"),
                ("proc/self/mountinfo", V2),
                // Another program's group, and no limit on the root.
                ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/memory.current", "900\n"),
                ("sys/fs/cgroup/system.slice/other.service/memory.max", "1\n"),
                (
                    "sys/fs/cgroup/system.slice/other.service/memory.current",
                    "1\n",
                ),
                (
                    "sys/fs/cgroup/system.slice/worker.service/memory.max",
                    middle,
                ),
                (
                    "sys/fs/cgroup/system.slice/worker.service/memory.current",
                    "10\n",
                ),
                (
                    "sys/fs/cgroup/system.slice/worker.service/job/memory.max",
                    inner,
                ),
                (
                    "sys/fs/cgroup/system.slice/worker.service/job/memory.current",
                    "10\n",
                ),
            ])
        };
        assert_eq!(nested("50\n", "max\n"), Some(40));
        assert_eq!(nested("50\n", "30\n"), Some(20));
        assert_eq!(nested("max\n", "max\n"), None);
    }

    #[test]
    fn cgroup_v1_mounted_at_the_containers_own_group() {
        let mounts = "40 39 0:33 /docker/1f /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      41 39 0:34 /docker/1f /sys/fs/cgroup/memory ro,nosuid master:9 - cgroup cgroup rw,memory\n";
        let files = [
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f/step\n0::/\n",
            ),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "80\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "30\n"),
            (
                "sys/fs/cgroup/memory/step/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/step/memory.usage_in_bytes", "30\n"),
            (
                "sys/fs/cgroup/memory/step/memory.stat",
                "total_inactive_file 30\n",
            ),
        ];
        assert_eq!(left_with(&files), Some(50));
    }

    #[test]
    fn cgroup_v1_at_an_unusual_mount_point_beside_v2() {
        let mounts = "41 39 0:34 / /cgroups/memory rw - cgroup none rw,memory\n\
                      42 39 0:35 / /cgroups/unified rw - cgroup2 none rw\n";
        let files = [
            ("proc/self/cgroup", "4:memory:/user/7\n0::/user/7\n"),
            ("proc/self/mountinfo", mounts),
            ("cgroups/memory/user/7/memory.limit_in_bytes", "80\n"),
            ("cgroups/memory/user/7/memory.usage_in_bytes", "20\n"),
        ];
        assert_eq!(left_with(&files), Some(60));
    }

    #[test]
    fn a_cgroup_outside_the_namespace_falls_back_to_the_mounted_one() {
        let files = [
            ("proc/self/cgroup", "0::/../other\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/memory.max", "100\n"),
            ("sys/fs/cgroup/memory.current", "60\n"),
            ("sys/fs/other/memory.max", "1\n"),
            ("sys/fs/other/memory.current", "1\n"),
        ];
        assert_eq!(left_with(&files), Some(40));
        assert_eq!(left_with(&[]), None);
    }
}
