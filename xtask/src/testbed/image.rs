//! A disk with a root tree of the testbed, for guests.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use indicatif::ProgressBar;

use super::component::Component;
use e2e::run_tool;

/// Part of every stamp: raise it when the way of making an image changes.
const REVISION: u32 = 1;

/// Size of the file system. The file has holes where nothing is.
const SIZE: &str = "2G";

/// A file per so many bytes: trees hold far fewer.
const BYTES_PER_INODE: &str = "65536";

/// Which tree, and what makes a file system of it.
pub struct Image {
    /// Name of the file.
    pub name: &'static str,
    /// The component with the tree.
    pub tree: &'static Component,
    /// The component with `mke2fs`.
    pub tools: &'static Component,
}

impl Image {
    /// Makes the image in the testbed at `root` unless it is there: an ext4 file system without a
    /// partition table. Its components have to be there.
    ///
    /// # Errors
    ///
    /// When there is no space for it.
    pub fn prepare(&self, root: &Path, bar: &ProgressBar) -> Result<()> {
        let image = root.join(self.name);
        let stamps = root.join("stamps");
        let stamp = stamps.join(self.name);
        let tree = fs::read_to_string(stamps.join(self.tree.name))?;
        let recipe = format!("{REVISION} {tree}");
        if image.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == recipe) {
            bar.finish_and_clear();
            return Ok(());
        }
        if bar.is_hidden() {
            eprintln!("Preparing {} for the testbed", self.name);
        }
        bar.set_message("making the file system");
        let new = root.join(format!("{}.new", self.name));
        self.make(root, &new)
            .with_context(|| format!("Cannot prepare {} for the testbed", self.name))?;
        // Guests that run have the old one open and keep it.
        fs::rename(&new, &image)?;
        fs::write(&stamp, recipe)?;
        bar.finish_with_message("ready");
        Ok(())
    }

    /// Makes the file system, without a journal, which nothing would write to, and without
    /// checksums.
    fn make(&self, root: &Path, file: &Path) -> Result<()> {
        let usr = root.join(self.tools.name).join("usr");
        // Started by the C library's loader that came with it.
        run_tool(
            Command::new(usr.join("lib64/ld-linux-x86-64.so.2"))
                .arg("--library-path")
                .arg(usr.join("lib/x86_64-linux-gnu"))
                .arg(usr.join("sbin/mke2fs"))
                .args(["-q", "-F", "-t", "ext4", "-i", BYTES_PER_INODE])
                .args(["-O", "^has_journal,^resize_inode,^metadata_csum"])
                .args(["-m", "0", "-E", "root_owner=0:0", "-d"])
                .arg(root.join(self.tree.name))
                .arg(file)
                .arg(SIZE),
        )?;
        Ok(())
    }
}
