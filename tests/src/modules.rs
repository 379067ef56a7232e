//! Kernel modules and what they depend on.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

/// A package's list of the modules that are part of its kernel.
pub const BUILT_IN: &str = "modules.builtin";

/// The modules of one kernel.
///
/// A package carries no `modules.dep` (the target's `depmod` makes it), so dependencies are read
/// where `depmod` reads them: in each module's `.modinfo` section.
#[derive(Debug)]
pub struct ModuleTree {
    files: HashMap<String, PathBuf>,
    /// Names of what other kernels have as modules.
    built_in: HashSet<String>,
}

/// Modules and, for each, all that it depends on.
#[derive(Debug)]
pub struct ModuleSet {
    modules: BTreeMap<String, Module>,
}

/// A module, unpacked, and the names of the modules it needs.
#[derive(Debug)]
pub struct Module {
    /// The module's bytes.
    pub bytes: Vec<u8>,
    /// Names of the modules that must be there before it.
    pub depends: Vec<String>,
}

impl ModuleTree {
    /// Indexes `directory`, which holds `kernel/`.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        index(&directory.join("kernel"), &mut files)?;
        let list = directory.join(BUILT_IN);
        let list =
            fs::read_to_string(&list).with_context(|| format!("Cannot read {}", list.display()))?;
        let built_in = list.lines().filter_map(|line| name(Path::new(line)));
        Ok(Self {
            files,
            built_in: built_in.collect(),
        })
    }

    /// The named modules and all that they depend on, but for those that the kernel has built in.
    ///
    /// # Errors
    ///
    /// When one is missing or is no ELF file.
    pub fn closure(&self, names: &[&str]) -> Result<ModuleSet> {
        let mut modules = BTreeMap::new();
        let mut wanted: Vec<String> = names.iter().map(|name| canonical(name)).collect();
        while let Some(name) = wanted.pop() {
            if modules.contains_key(&name) || self.built_in.contains(&name) {
                continue;
            }
            let Some(path) = self.files.get(&name) else {
                bail!("The kernel package has no module {name}");
            };
            let bytes = load(path).with_context(|| format!("Cannot read {}", path.display()))?;
            let depends = depends(&bytes)
                .with_context(|| format!("{} is no kernel module", path.display()))?;
            wanted.extend(depends.iter().cloned());
            modules.insert(name, Module { bytes, depends });
        }
        Ok(ModuleSet { modules })
    }
}

impl ModuleSet {
    /// Every module by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Module)> {
        self.modules
            .iter()
            .map(|(name, module)| (name.as_str(), module))
    }

    /// What has to be loaded before `name`, in that order.
    pub fn needs(&self, name: &str) -> Vec<&str> {
        let mut order = Vec::new();
        for needed in &self.modules[name].depends {
            self.visit(needed, &mut order);
        }
        order
    }

    fn visit<'a>(&'a self, name: &'a str, order: &mut Vec<&'a str>) {
        if !order.contains(&name) {
            for needed in &self.modules[name].depends {
                self.visit(needed, order);
            }
            order.push(name);
        }
    }
}

/// The kernel treats `-` and `_` in module names alike.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// A module's name, from that of its file; `None` for another file.
fn name(file: &Path) -> Option<String> {
    let (stem, extension) = file.file_name()?.to_str()?.split_once('.')?;
    matches!(extension, "ko" | "ko.xz").then(|| canonical(stem))
}

fn index(directory: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("Cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// A module's bytes. A compressed one is unpacked once and kept beside the original.
fn load(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return Ok(fs::read(path)?);
    }
    let plain = path.with_extension("");
    if let Ok(bytes) = fs::read(&plain) {
        return Ok(bytes);
    }
    let mut bytes = Vec::new();
    lzma_rs::xz_decompress(&mut fs::read(path)?.as_slice(), &mut bytes)?;
    // Under a name of its own until it is whole: others may share the testbed.
    let directory = path.parent().context("A file without a directory")?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&bytes)?;
    file.persist(&plain)?;
    Ok(bytes)
}

fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let info = file
        .section_by_name(".modinfo")
        .context("There is no .modinfo section")?;
    let names = info
        .data()?
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix("depends="))
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(modules: &[(&str, &[&str])]) -> ModuleSet {
        let module = |depends: &[&str]| Module {
            bytes: Vec::new(),
            depends: depends.iter().map(|name| (*name).to_owned()).collect(),
        };
        let modules = modules
            .iter()
            .map(|(name, depends)| ((*name).to_owned(), module(depends)))
            .collect();
        ModuleSet { modules }
    }

    #[test]
    fn needs_of_a_diamond_come_once_and_deepest_first() {
        let set = set(&[
            ("a", &["d", "b", "c"]),
            ("b", &["d"]),
            ("c", &["b"]),
            ("d", &[]),
        ]);
        assert_eq!(set.needs("a"), ["d", "b", "c"]);
        assert_eq!(set.needs("c"), ["d", "b"]);
        assert!(set.needs("d").is_empty());
    }

    #[test]
    fn modules_of_the_kernel_itself_are_in_no_closure() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("kernel")).expect("a directory");
        let list = directory.path().join(BUILT_IN);
        fs::write(list, "kernel/drivers/virtio/virtio-pci.ko\n").expect("a file");
        let tree = ModuleTree::open(directory.path()).expect("a tree");
        let closure = tree.closure(&["virtio_pci"]).expect("nothing is missing");
        assert_eq!(closure.iter().count(), 0);
        assert!(tree.closure(&["virtio_blk"]).is_err());
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        assert!(depends(b"not an ELF file").is_err());
    }
}
