//! The memory file system that a guest boots into.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    Kernel, Step, Testbed,
    cpio::Archive,
    modules::{BUILT_IN, ModuleTree},
    process::run_tool,
};

/// Process 1: mounts what is needed, runs the steps, powers off.
const INIT: &str = include_str!("guest-init.sh");

/// Digits of the number that keeps the steps' files in order.
const STEP_DIGITS: usize = 3;

/// A step's name, from that of its file.
pub(crate) fn step_name(file: &str) -> &str {
    file.split_once('-').map_or(file, |(_, name)| name)
}

/// A guest's file system: busybox, kernel modules and whatever is added.
#[derive(Clone, Debug)]
pub struct Initramfs {
    archive: Archive,
}

impl Initramfs {
    /// One with busybox and `modules` (with their dependencies) of `kernel`. The modules are not
    /// loaded; a step does that with `modprobe`.
    ///
    /// # Errors
    ///
    /// When the testbed lacks something.
    pub fn new(testbed: &Testbed, kernel: Kernel, modules: &[&str]) -> Result<Self> {
        let mut archive = Archive::default();
        for directory in ["dev", "proc", "sys", "tmp", "run", "mnt"] {
            archive.directory(directory);
        }
        archive.character_device("dev/console", 5, 1);
        archive.file("init", 0o755, INIT.as_bytes());

        let busybox = testbed.busybox();
        let bytes =
            fs::read(&busybox).with_context(|| format!("Cannot read {}", busybox.display()))?;
        archive.file("bin/busybox", 0o755, &bytes);
        let applets = run_tool(std::process::Command::new(&busybox).arg("--list"))?;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            archive.symlink(&format!("bin/{applet}"), "busybox");
        }

        let files = testbed.kernel(kernel)?;
        let directory = format!("lib/modules/{}", files.release);
        let mut dependencies = String::new();
        let closure = ModuleTree::open(&files.modules)?.closure(modules)?;
        for (name, module) in closure.iter() {
            archive.file(&format!("{directory}/{name}.ko"), 0o644, &module.bytes);
            write!(dependencies, "{name}.ko:")?;
            // `modprobe` loads a line from its end.
            for needed in closure.needs(name).into_iter().rev() {
                write!(dependencies, " {needed}.ko")?;
            }
            dependencies.push('\n');
        }
        archive.file(
            &format!("{directory}/modules.dep"),
            0o644,
            dependencies.as_bytes(),
        );
        // So that `modprobe` takes those for loaded.
        let built_in = fs::read(files.modules.join(BUILT_IN))?;
        archive.file(&format!("{directory}/{BUILT_IN}"), 0o644, &built_in);
        Ok(Self { archive })
    }

    /// Adds a file from the host at `path` in the guest.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn add(&mut self, path: &str, source: &Path) -> Result<()> {
        let bytes =
            fs::read(source).with_context(|| format!("Cannot read {}", source.display()))?;
        self.add_bytes(path, &bytes)
    }

    /// Adds programs of the host to the guest's `/bin`.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn add_programs(&mut self, programs: &[PathBuf]) -> Result<()> {
        self.add_programs_in("/bin", programs)
    }

    /// Adds programs of the host to a directory of the guest.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn add_programs_in(&mut self, directory: &str, programs: &[PathBuf]) -> Result<()> {
        for program in programs {
            let name = program.file_name().context("A program without a name")?;
            self.add(&format!("{directory}/{}", name.display()), program)?;
        }
        Ok(())
    }

    /// Adds a file at `path` in the guest. It is executable; nothing in a guest minds.
    ///
    /// # Errors
    ///
    /// When the path is relative.
    pub fn add_bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let inside = path.strip_prefix('/');
        ensure!(
            inside.is_some(),
            "A path in a guest is absolute, not {path:?}"
        );
        self.archive.file(inside.unwrap_or(path), 0o755, bytes);
        Ok(())
    }

    /// Adds what the guest is to do, in order; it powers off behind the last step. Call it once.
    pub fn add_steps(&mut self, steps: &[Step]) {
        put_steps(&mut self.archive, steps);
    }

    /// An archive of steps alone. Behind one without steps, in the same file, it is a guest's: a
    /// kernel unpacks one archive after the other.
    pub fn of_steps(steps: &[Step]) -> Vec<u8> {
        let mut archive = Archive::default();
        put_steps(&mut archive, steps);
        archive.finish()
    }

    /// The archive, uncompressed: a guest reads it from memory, and unpacking costs it time.
    pub fn build(&self) -> Vec<u8> {
        self.archive.clone().finish()
    }
}

fn put_steps(archive: &mut Archive, steps: &[Step]) {
    for (n, step) in steps.iter().enumerate() {
        let path = format!("steps/{n:0STEP_DIGITS$}-{}", step.name);
        archive.file(&path, 0o755, step.script.as_bytes());
    }
}
