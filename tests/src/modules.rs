//! Kernel modules and what they depend on.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

/// The modules of one kernel.
///
/// A package carries no `modules.dep` (the target's `depmod` makes it), so dependencies are read
/// where `depmod` reads them: in each module's `.modinfo` section.
#[derive(Debug)]
pub struct ModuleTree {
    files: HashMap<String, PathBuf>,
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
        Ok(Self { files })
    }

    /// The named modules and all that they depend on.
    ///
    /// # Errors
    ///
    /// When one is missing or is no ELF file.
    pub fn closure(&self, names: &[&str]) -> Result<ModuleSet> {
        let mut modules = BTreeMap::new();
        let mut wanted: Vec<String> = names.iter().map(|name| canonical(name)).collect();
        while let Some(name) = wanted.pop() {
            if modules.contains_key(&name) {
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

fn index(directory: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("Cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some((stem, "ko" | "ko.xz")) = name.split_once('.')
        {
            files.insert(canonical(stem), path);
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
    fn bytes_that_are_no_module_are_refused() {
        assert!(depends(b"not an ELF file").is_err());
    }
}
