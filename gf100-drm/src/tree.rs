//! The files that programs look at to find a render node: `/dev/dri` and a PCI device in `/sys`.
//!
//! They lie in a directory of their own; the [`preload`](crate::preload) module sends paths that
//! begin as theirs do there. Where a program finds these, it finds no other card.
//!
//! Source: LD `xf86drm.c drmGetDevices2, drmParsePciBusInfo, drmParsePciDeviceInfo`.

use std::env;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// PCI vendor.
pub const VENDOR: u16 = 0x10de;
/// PCI device: Quadro 6000.
pub const DEVICE: u16 = 0x06d8;
/// PCI revision.
const REVISION: u8 = 0xa3;
/// Major number of DRM nodes.
const MAJOR: u32 = 226;
/// Minor number of the first render node.
const MINOR: u32 = 128;
/// The slot, in a domain that hosts do not have.
const SLOT: &str = "6d80:01:00.0";
/// The render node.
const NODE: &str = "dev/dri/renderD128";
/// Where paths of the tree begin.
const ROOTS: [&str; 3] = [
    "/dev/dri",
    "/sys/dev/char/226:128",
    "/sys/devices/pci6d80:01",
];
/// Names the directory to use, which the processes of one `gpuvm exec` share.
const DIRECTORY: &str = "GF100_TREE";

static TREE: OnceLock<Option<Tree>> = OnceLock::new();

/// The tree of this process.
pub struct Tree {
    root: PathBuf,
    /// Device and inode of the node's stand-in.
    node: (u64, u64),
}

/// The card's name on its bus.
pub fn unique() -> String {
    format!("pci:{SLOT}")
}

/// The device number of the render node.
pub fn device_number() -> libc::dev_t {
    libc::makedev(MAJOR, MINOR)
}

impl Tree {
    /// The tree, made when it is first needed. `None` if the host has no place for it.
    pub fn get() -> Option<&'static Self> {
        let make = || match Self::make() {
            Ok(tree) => Some(tree),
            Err(error) => {
                eprintln!("gf100-drm: Cannot make the node's directory: {error}");
                None
            }
        };
        TREE.get_or_init(make).as_ref()
    }

    /// The tree, if it was needed before.
    pub fn if_made() -> Option<&'static Self> {
        TREE.get()?.as_ref()
    }

    fn make() -> io::Result<Self> {
        let root = match env::var_os(DIRECTORY) {
            Some(directory) => PathBuf::from(directory),
            None => {
                let name = format!("gf100-drm-{}", std::process::id());
                // SAFETY: registers a function that lives as long as the process.
                unsafe { libc::atexit(remove) };
                env::temp_dir().join(name)
            }
        };
        let node = root.join(NODE);
        if !node.exists() {
            fill(&root)?;
        }
        let metadata = fs::metadata(&node)?;
        Ok(Self {
            root,
            node: (metadata.dev(), metadata.ino()),
        })
    }

    /// Where `path` is really.
    fn place(&self, path: &[u8]) -> Option<CString> {
        let root = self.root.as_os_str().as_bytes();
        CString::new([root, path].concat()).ok()
    }

    /// Whether a file with this device and inode is the node's stand-in.
    pub fn is_node(&self, device: u64, inode: u64) -> bool {
        self.node == (device, inode)
    }

    /// A path without the tree's own place in it.
    pub fn outside(&self, path: &CStr) -> Option<CString> {
        let root = self.root.as_os_str().as_bytes();
        CString::new(path.to_bytes().strip_prefix(root)?).ok()
    }
}

/// Where a program's path leads, if it is one of the tree's.
pub fn redirect(path: &CStr) -> Option<CString> {
    let bytes = path.to_bytes();
    let of_tree = ROOTS.iter().any(|root| {
        let rest = bytes.strip_prefix(root.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    });
    match of_tree {
        true => Tree::get()?.place(bytes),
        false => None,
    }
}

/// Whether a program's path is the node itself.
pub fn is_node_path(path: &CStr) -> bool {
    path.to_bytes().strip_prefix(b"/") == Some(NODE.as_bytes())
}

extern "C" fn remove() {
    if let Some(tree) = Tree::if_made() {
        // What is left over is small, and there is nobody to tell.
        let _ = fs::remove_dir_all(&tree.root);
    }
}

/// Makes the files below `root`, so that others see all of them or none.
fn fill(root: &Path) -> io::Result<()> {
    let mut new = root.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    let slot = new.join("sys/devices/pci6d80:01").join(SLOT);
    let drm = slot.join("drm/renderD128");
    fs::create_dir_all(&drm)?;
    fs::create_dir_all(new.join("sys/dev/char"))?;
    fs::create_dir_all(new.join("sys/bus/pci"))?;
    fs::create_dir_all(new.join("dev/dri"))?;
    fs::write(new.join(NODE), "")?;
    for (name, text) in [
        ("vendor", format!("{VENDOR:#06x}\n")),
        ("device", format!("{DEVICE:#06x}\n")),
        ("subsystem_vendor", format!("{VENDOR:#06x}\n")),
        ("subsystem_device", "0x076f\n".into()),
        ("revision", format!("{REVISION:#04x}\n")),
        ("class", "0x030200\n".into()),
        (
            "uevent",
            format!(
                "DRIVER=nouveau\nPCI_CLASS=30200\nPCI_ID={VENDOR:04X}:{DEVICE:04X}\n\
                 PCI_SUBSYS_ID={VENDOR:04X}:076F\nPCI_SLOT_NAME={SLOT}\n"
            ),
        ),
    ] {
        fs::write(slot.join(name), text)?;
    }
    fs::write(slot.join("config"), configuration_space())?;
    fs::write(drm.join("dev"), format!("{MAJOR}:{MINOR}\n"))?;
    let uevent =
        format!("MAJOR={MAJOR}\nMINOR={MINOR}\nDEVNAME=dri/renderD{MINOR}\nDEVTYPE=drm_minor\n");
    fs::write(drm.join("uevent"), uevent)?;
    symlink("../../../../bus/pci", slot.join("subsystem"))?;
    symlink("../..", drm.join("device"))?;
    let place = Path::new("../../devices/pci6d80:01")
        .join(SLOT)
        .join("drm/renderD128");
    symlink(
        place,
        new.join("sys/dev/char").join(format!("{MAJOR}:{MINOR}")),
    )?;
    match fs::rename(&new, root) {
        Err(_) if root.join(NODE).exists() => fs::remove_dir_all(&new),
        // An empty directory can be replaced, as `rename` does it.
        result => result,
    }
}

/// The header of configuration space as far as libdrm looks at it.
fn configuration_space() -> [u8; 64] {
    let mut space = [0; 64];
    space[0..2].copy_from_slice(&VENDOR.to_le_bytes());
    space[2..4].copy_from_slice(&DEVICE.to_le_bytes());
    space[8] = REVISION;
    space[0x0b] = 3;
    space[0x0a] = 2;
    space[0x2c..0x2e].copy_from_slice(&VENDOR.to_le_bytes());
    space[0x2e..0x30].copy_from_slice(&0x076fu16.to_le_bytes());
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_tree_are_redirected() {
        for path in [
            c"/dev/dri2",
            c"/dev/null",
            c"/sys/dev/char/226:1",
            c"",
            c"dev/dri",
        ] {
            assert_eq!(redirect(path), None, "{path:?}");
        }
        assert!(is_node_path(c"/dev/dri/renderD128"));
        assert!(!is_node_path(c"/dev/dri/card0"));
    }

    #[test]
    fn the_node_leads_to_its_device() {
        let directory = env::temp_dir().join(format!("gf100-tree-{}", std::process::id()));
        fill(&directory).unwrap();
        let link = directory.join("sys/dev/char/226:128/device");
        let vendor = fs::read_to_string(link.join("vendor")).unwrap();
        assert_eq!(vendor, "0x10de\n");
        let real = link.canonicalize().unwrap();
        assert!(real.ends_with("sys/devices/pci6d80:01/6d80:01:00.0"));
        assert!(
            fs::read_link(link.join("subsystem"))
                .unwrap()
                .ends_with("pci")
        );
        fs::remove_dir_all(directory).unwrap();
    }
}
