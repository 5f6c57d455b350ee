//! The structure of the crates: top-level modules ("rooms") import only from those after them, files have no import
//! cycles, and each type name means one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, UseName, UseRename, UseTree};

/// The checked crates and their root files.
const CRATES: [(&str, &str); 7] = [
    ("protocol", "lib.rs"),
    ("macros", "lib.rs"),
    ("supervisor", "lib.rs"),
    ("platform", "lib.rs"),
    ("runtime", "lib.rs"),
    ("cli", "main.rs"),
    ("benches", "lib.rs"),
];

/// Type names that every crate may define.
const COMMON: [&str; 4] = ["Error", "Args", "Config", "Result"];

type ModulePath = Vec<String>;

/// One source file.
#[derive(Debug, Default)]
struct Source {
    file: String,
    /// The modules it imports from or names by full path, as paths from the crate root.
    uses: BTreeSet<ModulePath>,
    types: BTreeSet<String>,
}

/// One crate: its top-level modules ("rooms") in order, and its files by module.
struct Crate {
    name: &'static str,
    rooms: Vec<String>,
    sources: BTreeMap<ModulePath, Source>,
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

/// Collects the imports and the types of one file, without its tests.
struct Reader<'a> {
    module: &'a [String],
    source: &'a mut Source,
    /// The modules in separate files, each with a flag that marks test modules.
    children: Vec<(String, bool)>,
}

impl Reader<'_> {
    fn note(&mut self, path: &[String]) {
        let mut base = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            Some("self") => self.module.to_vec(),
            _ => return,
        };
        base.extend_from_slice(&path[1..]);
        self.source.uses.insert(base);
    }

    fn note_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_tree(before, &path.tree);
                before.pop();
            }
            UseTree::Name(UseName { ident, .. }) | UseTree::Rename(UseRename { ident, .. }) => {
                before.push(ident.to_string());
                self.note(before);
                before.pop();
            }
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.note_tree(before, tree);
                }
            }
            #[allow(unreachable_patterns, reason = "syn may add variants")]
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = match item {
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, None),
            Item::Impl(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            Item::Mod(item) => (&item.attrs, None),
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) || matches!(item, Item::Mod(_)) {
            self.source.types.extend(name.map(ToString::to_string));
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let test = is_test(&item.attrs);
        match &item.content {
            None => self.children.push((item.ident.to_string(), test)),
            Some(_) if test => {}
            Some(_) => visit::visit_item_mod(self, item),
        }
    }

    /// Ignores the types defined inside functions: nothing outside can name them.
    fn visit_block(&mut self, block: &'ast syn::Block) {
        let types = self.source.types.clone();
        visit::visit_block(self, block);
        self.source.types = types;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&mut Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.note(&segments.collect::<Vec<_>>());
        visit::visit_path(self, path);
    }
}

impl Crate {
    fn read(name: &'static str, root_file: &str) -> Self {
        let src = root().join(name).join("src");
        let mut found = Self {
            name,
            rooms: Vec::new(),
            sources: BTreeMap::new(),
        };
        let rooms = found.read_file(&src.join(root_file), &src, Vec::new());
        found.rooms = rooms.into_iter().map(|(name, _)| name).collect();
        found
    }

    /// Reads a file and the modules below it, which are in `folder`. Returns the file's own modules, in order.
    fn read_file(&mut self, file: &Path, folder: &Path, module: ModulePath) -> Vec<(String, bool)> {
        let text = fs::read_to_string(file).unwrap();
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut source = Source {
            file: file.strip_prefix(root()).unwrap().display().to_string(),
            ..Source::default()
        };
        let mut reader = Reader {
            module: &module,
            source: &mut source,
            children: Vec::new(),
        };
        reader.visit_file(&parsed);
        let children = reader.children;
        self.sources.insert(module.clone(), source);
        for (child, _) in children.iter().filter(|(_, test)| !test) {
            let module: ModulePath = module.iter().cloned().chain([child.clone()]).collect();
            let below = folder.join(child);
            let flat = folder.join(format!("{child}.rs"));
            if flat.exists() {
                self.read_file(&flat, &below, module);
            } else {
                self.read_file(&below.join("mod.rs"), &below, module);
            }
        }
        children
    }

    /// Returns the file that a path points into: the deepest module on the path that has a file.
    fn target(&self, path: &[String]) -> &ModulePath {
        let prefixes = (0..=path.len()).rev().map(|length| &path[..length]);
        let mut known = prefixes.filter_map(|prefix| self.sources.get_key_value(prefix));
        known.next().unwrap().0
    }

    /// Returns, for each file, the other files it imports from. Leaves out the crate root, which every file may name for
    /// its re-exports.
    fn arrows(&self) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
        let mut arrows = BTreeMap::new();
        for (module, source) in &self.sources {
            let targets = source.uses.iter().map(|path| self.target(path));
            let others: BTreeSet<_> = targets
                .filter(|target| !target.is_empty() && *target != module)
                // A module may use its own submodules, and these may use what the module shares with them.
                .filter(|target| !target.starts_with(module) && !module.starts_with(target))
                .collect();
            arrows.insert(module, others);
        }
        arrows
    }
}

fn crates() -> impl Iterator<Item = Crate> {
    CRATES
        .into_iter()
        .map(|(name, root)| Crate::read(name, root))
}

#[test]
fn top_level_modules_import_only_from_later_ones() {
    let mut upwards = Vec::new();
    for found in crates() {
        let floor = |module: &ModulePath| found.rooms.iter().position(|room| *room == module[0]);
        for (module, targets) in found.arrows() {
            if module.is_empty() {
                continue;
            }
            for target in targets {
                if floor(target) < floor(module) {
                    let (from, to) = (&found.sources[module].file, target.join("::"));
                    upwards.push(format!(
                        "{from} imports from crate::{to}, which is above it"
                    ));
                }
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}

#[test]
fn files_have_no_import_cycles() {
    for found in crates() {
        let mut arrows = found.arrows();
        // A file without remaining imports is not part of a cycle.
        loop {
            let free: BTreeSet<_> = arrows
                .iter()
                .filter(|(_, targets)| targets.is_empty())
                .map(|(module, _)| *module)
                .collect();
            if free.is_empty() {
                break;
            }
            arrows.retain(|module, _| !free.contains(module));
            for targets in arrows.values_mut() {
                targets.retain(|target| !free.contains(target));
            }
        }
        assert!(arrows.is_empty(), "{}: {arrows:#?}", found.name);
    }
}

#[test]
fn a_type_name_means_one_thing() {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for found in crates() {
        for source in found.sources.into_values() {
            // The stub of a disabled feature, with the same names.
            if source.file.ends_with("/off.rs") {
                continue;
            }
            for name in source.types {
                let common = COMMON.contains(&name.as_str());
                let key = if common {
                    format!("{}::{name}", found.name)
                } else {
                    name
                };
                files.entry(key).or_default().insert(source.file.clone());
            }
        }
    }
    files.retain(|_, files| files.len() > 1);
    assert!(files.is_empty(), "{files:#?}");
}

#[test]
fn contributing_lists_the_top_level_modules_in_order() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    for found in crates() {
        let rooms: Vec<String> = found.rooms.iter().map(|room| format!("`{room}`")).collect();
        let line = format!("| `{}/src` | {} |", found.name, rooms.join(" · "));
        assert!(
            text.contains(&line),
            "CONTRIBUTING.md lacks this line:\n{line}"
        );
    }
}
