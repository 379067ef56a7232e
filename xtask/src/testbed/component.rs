//! A directory of the testbed, made from packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{apt::Apt, host};
use e2e::run_tool;

/// Part of every stamp: raise it when the way of unpacking changes.
const REVISION: u32 = 1;

/// dpkg's list of what a root tree holds.
const STATUS: &str = "var/lib/dpkg/status";

/// Which packages, and where they come from.
#[derive(Serialize)]
pub struct Component {
    /// Name of its directory.
    pub name: &'static str,
    /// Release whose package lists are used.
    pub release: &'static str,
    /// Suites of that release.
    pub suites: &'static [&'static str],
    /// The suite to prefer, if not the release itself.
    pub prefer: Option<&'static str>,
    /// What of it.
    pub packages: Packages,
}

/// Which packages to unpack.
#[derive(Serialize)]
pub enum Packages {
    /// These and all that they depend on.
    WithDependencies(&'static [&'static str]),
    /// This one only.
    Alone(&'static str),
    /// Only the package that this one, which is empty, depends on.
    NamedBy(&'static str),
    /// These and all that they depend on, as a root tree that programs run in.
    Root(&'static [&'static str]),
    /// What these need beyond the root tree of another component, to lay over that.
    Layer {
        /// Name of the component with the root tree.
        base: &'static str,
        /// Packages on top of it.
        packages: &'static [&'static str],
    },
}

impl Component {
    /// Makes the component in the testbed at `root` unless it is there.
    ///
    /// # Errors
    ///
    /// When the host cannot do that or a download fails.
    pub fn prepare(&self, root: &Path, bar: &ProgressBar) -> Result<()> {
        let directory = root.join(self.name);
        let stamp = root.join("stamps").join(self.name);
        let recipe = serde_json::to_string(&(REVISION, self))?;
        if directory.is_dir() && fs::read_to_string(&stamp).is_ok_and(|old| old == recipe) {
            bar.finish_and_clear();
            return Ok(());
        }
        self.make(root, &directory, bar)
            .with_context(|| format!("Cannot prepare {} for the testbed", self.name))?;
        fs::create_dir_all(root.join("stamps"))?;
        fs::write(&stamp, recipe)?;
        bar.finish_with_message("ready");
        Ok(())
    }

    fn make(&self, root: &Path, directory: &Path, bar: &ProgressBar) -> Result<()> {
        host::check_package_tools()?;
        if bar.is_hidden() {
            eprintln!("Preparing {} for the testbed", self.name);
        }
        let mut apt = Apt::new(&root.join("apt").join(self.release), self.suites)?;
        if let Packages::Layer { base, .. } = self.packages {
            apt.assume_installed(&root.join(base).join(STATUS));
        }
        bar.set_message(format!("reading the package lists of {}", self.release));
        apt.update(bar)?;
        bar.set_message("downloading");
        let archives = root.join("downloads").join(self.name);
        let packages = match self.packages {
            Packages::WithDependencies(names)
            | Packages::Root(names)
            | Packages::Layer {
                packages: names, ..
            } => apt.download_closure(names, self.prefer, &archives, bar)?,
            Packages::Alone(name) => apt.download(name, &archives, bar)?,
            Packages::NamedBy(name) => apt.download(&apt.dependency(name)?, &archives, bar)?,
        };
        bar.set_message("unpacking");
        bar.set_position(0);
        let new = root.join(format!("{}.new", self.name));
        remove(&new)?;
        unpack(&packages, &new, bar)?;
        if let Packages::Root(_) = self.packages {
            settle(&packages, &new)?;
        }
        remove(directory)?;
        fs::rename(&new, directory)?;
        remove(&archives)
    }
}

fn unpack(packages: &[PathBuf], directory: &Path, bar: &ProgressBar) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (n, package) in packages.iter().enumerate() {
        run_tool(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(package)
                .arg(directory),
        )?;
        bar.set_position(100 * (n as u64 + 1) / packages.len() as u64);
    }
    Ok(())
}

/// Does of the packages' installation, which runs no scripts here, what programs depend on. The
/// loader's cache is not part of that: Debian's loader finds all libraries by its built-in paths.
fn settle(packages: &[PathBuf], directory: &Path) -> Result<()> {
    let mut status = String::new();
    for package in packages {
        status += run_tool(Command::new("dpkg-deb").arg("--field").arg(package))?.trim_end();
        status += "\nStatus: install ok installed\n\n";
    }
    let path = directory.join(STATUS);
    fs::create_dir_all(path.parent().context("The status has no directory")?)?;
    fs::write(path, status)?;
    for (master, file) in [
        ("passwd.master", "etc/passwd"),
        ("group.master", "etc/group"),
    ] {
        fs::copy(
            directory.join("usr/share/base-passwd").join(master),
            directory.join(file),
        )?;
    }
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("Cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
