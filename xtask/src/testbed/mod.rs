//! Prepares what guests need from outside, without root and without touching the host's set-up.
//!
//! Everything is a [`Component`]: packages of Debian's archive, unpacked into a directory of the
//! testbed. A component's stamp holds the recipe it was made by; as long as that is the recipe of
//! the sources, nothing is done and no network is needed. A component appears under its name only
//! when it is whole, and finished downloads are kept until then, so an interrupted run goes on
//! where it was. The disk of guests is an [`Image`] of one of them.

mod apt;
mod component;
mod host;
mod image;

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::fs::FlockOperation;

use component::{Component, Packages};
use e2e::{Kernel, KernelFiles, Manifest, Qemu, Testbed};
use image::Image;

use crate::workspace;

/// QEMU with a vfio-user client (10.1 or later).
const QEMU: Component = Component {
    name: "qemu",
    release: "trixie",
    suites: &["trixie", "trixie-backports"],
    prefer: Some("trixie-backports"),
    packages: Packages::WithDependencies(&["qemu-system-x86"]),
};

/// A busybox that needs no libraries.
const BUSYBOX: Component = Component {
    name: "busybox",
    release: "bookworm",
    suites: &["bookworm"],
    prefer: None,
    packages: Packages::Alone("busybox-static"),
};

/// A root tree with what unmodified GPU programs run on: Mesa's OpenCL (rusticl) and GL.
const DEBIAN: Component = Component {
    name: "debian-13",
    release: "trixie",
    suites: &["trixie", "trixie-backports"],
    prefer: None,
    packages: Packages::Root(&[
        "base-files",
        "base-passwd",
        "bash",
        "coreutils",
        "clinfo",
        "dash",
        "libegl1",
        "libgbm1",
        "libgl1",
        "libgl1-mesa-dri",
        "mesa-opencl-icd",
        "mesa-utils",
        "ocl-icd-libopencl1",
    ]),
};

/// OpenCL on the CPU, as a reference.
const POCL: Component = Component {
    name: "debian-13-pocl",
    release: "trixie",
    suites: &["trixie", "trixie-backports"],
    prefer: None,
    packages: Packages::Layer {
        base: DEBIAN.name,
        packages: &["pocl-opencl-icd"],
    },
};

/// What makes file systems.
const E2FSPROGS: Component = Component {
    name: "e2fsprogs",
    release: "trixie",
    suites: &["trixie", "trixie-backports"],
    prefer: None,
    packages: Packages::WithDependencies(&["e2fsprogs"]),
};

/// The root tree as a disk for guests.
const DISK: Image = Image {
    name: "debian-13.ext4",
    tree: &DEBIAN,
    tools: &E2FSPROGS,
};

/// A test suite for GPUs that we did not write.
const PIGLIT: Component = Component {
    name: "debian-13-piglit",
    release: "trixie",
    suites: &["trixie", "trixie-backports"],
    prefer: None,
    packages: Packages::Layer {
        base: DEBIAN.name,
        packages: &["piglit"],
    },
};

/// The stock kernels: each release's default one.
const KERNELS: [(Kernel, Component); 2] = [
    (
        Kernel::V6_1,
        Component {
            name: "kernel-6.1",
            release: "bookworm",
            suites: &["bookworm"],
            prefer: None,
            packages: Packages::NamedBy("linux-image-amd64"),
        },
    ),
    (
        Kernel::V6_12,
        Component {
            name: "kernel-6.12",
            release: "trixie",
            suites: &["trixie", "trixie-backports"],
            prefer: None,
            packages: Packages::NamedBy("linux-image-amd64"),
        },
    ),
];

/// A prepared testbed, for people.
pub struct Summary {
    root: PathBuf,
    manifest: Manifest,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "testbed  {}", self.root.display())?;
        match &self.manifest.qemu {
            Qemu::Host { program } => writeln!(f, "qemu     {} (the host's)", program.display())?,
            Qemu::Unpacked { root } => writeln!(f, "qemu     unpacked in {}", root.display())?,
        }
        write!(f, "kernels ")?;
        for files in self.manifest.kernels.values() {
            write!(f, " {}", files.release)?;
        }
        Ok(())
    }
}

/// Makes whatever is missing or stale.
///
/// # Errors
///
/// When the host lacks a tool or a download fails.
pub fn prepare() -> Result<Summary> {
    let root = Testbed::root(&workspace::target());
    fs::create_dir_all(&root).with_context(|| format!("Cannot make {}", root.display()))?;
    let root = root.canonicalize()?;
    // Several checkouts may share a testbed.
    let lock = fs::File::create(root.join("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;

    let bars = MultiProgress::new();
    let qemu = match host::qemu() {
        Some(program) => Qemu::Host { program },
        None => {
            QEMU.prepare(&root, &bar(&bars, QEMU.name))?;
            Qemu::Unpacked {
                root: QEMU.name.into(),
            }
        }
    };
    BUSYBOX.prepare(&root, &bar(&bars, BUSYBOX.name))?;
    let mut kernels = BTreeMap::new();
    for (kernel, component) in KERNELS {
        component.prepare(&root, &bar(&bars, component.name))?;
        kernels.insert(kernel, kernel_files(&root, component.name)?);
    }
    for component in [&DEBIAN, &POCL, &E2FSPROGS] {
        component.prepare(&root, &bar(&bars, component.name))?;
    }
    DISK.prepare(&root, &bar(&bars, DISK.name))?;
    let manifest = Manifest {
        qemu,
        busybox: Path::new(BUSYBOX.name).join("bin/busybox"),
        kernels,
        debian: DEBIAN.name.into(),
        pocl: POCL.name.into(),
        disk: DISK.name.into(),
    };
    replace(
        &root.join(Testbed::MANIFEST),
        &serde_json::to_vec_pretty(&manifest)?,
    )?;
    Ok(Summary { root, manifest })
}

/// Prepares piglit, which few need and which is large (2 GB): a tree to lay over the Debian one of
/// a testbed that [`open`] gave.
///
/// # Errors
///
/// As [`prepare`].
pub fn piglit() -> Result<PathBuf> {
    let root = Testbed::root(&workspace::target()).canonicalize()?;
    let lock = fs::File::create(root.join("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    PIGLIT.prepare(&root, &bar(&MultiProgress::new(), PIGLIT.name))?;
    Ok(root.join(PIGLIT.name))
}

/// Prepares the testbed and opens it.
///
/// # Errors
///
/// As [`prepare`].
pub fn open() -> Result<Testbed> {
    Testbed::open(&prepare()?.root)
}

fn bar(bars: &MultiProgress, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:16} {bar:30} {percent:>3}% {wide_msg}")
        .expect("a valid template");
    bars.add(
        ProgressBar::new(100)
            .with_style(style)
            .with_prefix(name.to_owned()),
    )
}

/// Finds the kernel in an unpacked package; paths are relative to `root`.
fn kernel_files(root: &Path, name: &str) -> Result<KernelFiles> {
    // Debian 13 has dropped the aliases in `/`.
    for modules in ["lib/modules", "usr/lib/modules"] {
        let modules = Path::new(name).join(modules);
        let Ok(mut releases) = fs::read_dir(root.join(&modules)) else {
            continue;
        };
        if let Some(entry) = releases.next() {
            let release = entry?.file_name().to_string_lossy().into_owned();
            return Ok(KernelFiles {
                image: Path::new(name)
                    .join("boot")
                    .join(format!("vmlinuz-{release}")),
                modules: modules.join(&release),
                release,
            });
        }
    }
    anyhow::bail!(
        "The package in {} holds no modules",
        root.join(name).display()
    )
}

/// Writes a file so that others see either the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, path).with_context(|| format!("Cannot write {}", path.display()))
}
