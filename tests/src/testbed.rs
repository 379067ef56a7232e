//! Where the things are that a guest needs from outside.

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Names a testbed other than `target/testbed`, so that several checkouts can share one.
const OVERRIDE: &str = "GPUVM_TESTBED";

/// A stock guest kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kernel {
    /// Debian 12's.
    #[serde(rename = "6.1")]
    V6_1,
    /// Debian 13's.
    #[serde(rename = "6.12")]
    V6_12,
}

impl Kernel {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

impl FromStr for Kernel {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kernel| kernel.to_string() == text)
            .with_context(|| format!("No kernel {text:?}: there are 6.1 and 6.12"))
    }
}

/// What a prepared testbed holds. Paths inside the testbed are relative to its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The emulator.
    pub qemu: Qemu,
    /// A static busybox.
    pub busybox: PathBuf,
    /// The guest kernels.
    pub kernels: BTreeMap<Kernel, KernelFiles>,
    /// A Debian 13 root tree with Mesa.
    pub debian: PathBuf,
    /// PoCL, to lay over that tree.
    pub pocl: PathBuf,
    /// That tree as an ext4 file system.
    pub disk: PathBuf,
}

/// How to start QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Qemu {
    /// The host's own.
    Host {
        /// `qemu-system-x86_64`.
        program: PathBuf,
    },
    /// Packages unpacked under `root`, started by the C library's loader that came with them:
    /// the host's libraries may be older.
    Unpacked {
        /// The directory that stands for `/`.
        root: PathBuf,
    },
}

impl Qemu {
    /// The command, without arguments of a machine; `base` is the testbed's root.
    pub fn command(&self, base: &Path) -> Command {
        match self {
            Self::Host { program } => Command::new(program),
            Self::Unpacked { root } => {
                let usr = base.join(root).join("usr");
                let mut command = Command::new(usr.join("lib64/ld-linux-x86-64.so.2"));
                command
                    .arg("--library-path")
                    .arg(usr.join("lib/x86_64-linux-gnu"))
                    .arg(usr.join("bin/qemu-system-x86_64"))
                    .arg("-L")
                    .arg(usr.join("share/seabios"))
                    .arg("-L")
                    .arg(usr.join("share/qemu"))
                    .env("QEMU_MODULE_DIR", usr.join("lib/x86_64-linux-gnu/qemu"));
                command
            }
        }
    }
}

/// A kernel package's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFiles {
    /// What `uname -r` says.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// The directory that holds `kernel/`.
    pub modules: PathBuf,
}

/// The prepared testbed.
#[derive(Clone, Debug)]
pub struct Testbed {
    root: PathBuf,
    manifest: Manifest,
}

impl Testbed {
    /// Name of the manifest in the testbed's root.
    pub const MANIFEST: &str = "testbed.json";

    /// Where the testbed is: `$GPUVM_TESTBED`, else `testbed` in the build directory.
    pub fn root(target: &Path) -> PathBuf {
        env::var_os(OVERRIDE).map_or_else(|| target.join("testbed"), PathBuf::from)
    }

    /// Opens the testbed at `root`.
    ///
    /// # Errors
    ///
    /// When it has not been prepared.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join(Self::MANIFEST);
        let text = fs::read(&path).with_context(|| {
            format!(
                "There is no testbed in {}: run `cargo xtask testbed`",
                root.display()
            )
        })?;
        let manifest = serde_json::from_slice(&text)
            .with_context(|| format!("Cannot make sense of {}", path.display()))?;
        Ok(Self {
            root: root.canonicalize()?,
            manifest,
        })
    }

    /// QEMU, without arguments of a machine.
    pub fn qemu(&self) -> Command {
        self.manifest.qemu.command(&self.root)
    }

    /// The static busybox.
    pub fn busybox(&self) -> PathBuf {
        self.root.join(&self.manifest.busybox)
    }

    /// The Debian 13 root tree with packaged Mesa: rusticl, GL on EGL and GBM, clinfo.
    pub fn debian(&self) -> PathBuf {
        self.root.join(&self.manifest.debian)
    }

    /// What packaged PoCL needs beyond [`debian`](Self::debian): a tree to lay over it.
    pub fn pocl(&self) -> PathBuf {
        self.root.join(&self.manifest.pocl)
    }

    /// The Debian tree as an ext4 file system, without a partition table, for reading only.
    pub fn disk(&self) -> PathBuf {
        self.root.join(&self.manifest.disk)
    }

    /// A kernel's files, with absolute paths.
    ///
    /// # Errors
    ///
    /// When the testbed was prepared without this kernel.
    pub fn kernel(&self, kernel: Kernel) -> Result<KernelFiles> {
        let Some(files) = self.manifest.kernels.get(&kernel) else {
            bail!("The testbed has no kernel {kernel}: run `cargo xtask testbed`");
        };
        Ok(KernelFiles {
            release: files.release.clone(),
            image: self.root.join(&files.image),
            modules: self.root.join(&files.modules),
        })
    }
}
