//! Root trees to run programs in: layers of directories, seen by one process and its children.
//!
//! The process gets a mount namespace of its own in which the layers, topmost first, are one tree;
//! what it writes there goes to memory and is gone with it. Nobody needs to be root: others get a
//! user namespace, in which they are.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

/// Where the tree is put together; hidden by a file system in memory, so it need only exist.
const PLACE: &str = "/mnt";
/// Directories of the host that every tree shows.
const SHARED: [&str; 4] = ["/proc", "/sys", "/dev", "/tmp"];

/// A tree to enter.
#[derive(Debug)]
pub struct Rootfs {
    options: CString,
    binds: Vec<Bind>,
    directory: PathBuf,
    user: Option<(u32, u32)>,
}

/// Something of the host that is to be seen in the tree.
#[derive(Debug)]
struct Bind {
    source: CString,
    target: PathBuf,
    is_file: bool,
}

/// Why there is no such tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer or a path to show does not exist.
    #[error("Cannot open {path:?}")]
    Missing {
        /// Which.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// A path that mount options cannot hold.
    #[error("A root tree cannot be at {0:?}: its path has a colon, a comma or a backslash")]
    Path(PathBuf),
}

impl Rootfs {
    /// The tree of `layers`, topmost first, that shows `binds` of the host at the same places.
    /// Programs start in `directory`.
    ///
    /// # Errors
    ///
    /// One of the paths does not exist or cannot be used.
    pub fn new(layers: &[PathBuf], binds: &[PathBuf], directory: &Path) -> Result<Self, Error> {
        let canonical = |path: &Path| {
            path.canonicalize().map_err(|source| Error::Missing {
                path: path.to_owned(),
                source,
            })
        };
        let mut lower = OsString::new();
        for layer in layers {
            let layer = canonical(layer)?;
            if layer
                .as_os_str()
                .as_bytes()
                .iter()
                .any(|byte| b":,\\".contains(byte))
            {
                return Err(Error::Path(layer));
            }
            if !lower.is_empty() {
                lower.push(":");
            }
            lower.push(layer);
        }
        let mut options = OsString::from("lowerdir=");
        options.push(&lower);
        options.push(format!(",upperdir={PLACE}/upper,workdir={PLACE}/work"));
        // SAFETY: these calls cannot fail.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        if user != 0 {
            options.push(",userxattr");
        }
        let shared = SHARED.iter().map(Path::new);
        let binds = shared
            .chain(binds.iter().map(PathBuf::as_path))
            .map(|path| {
                let path = canonical(path)?;
                Ok(Bind {
                    source: c_string(&path)?,
                    target: inside(&path),
                    is_file: !path.is_dir(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            options: CString::new(options.as_bytes())
                .map_err(|_| Error::Path(layers[0].clone()))?,
            binds,
            directory: directory.to_owned(),
            user: (user != 0).then_some((user, group)),
        })
    }

    /// Makes this process see the tree as its root. Meant for a child before it starts its program.
    ///
    /// # Errors
    ///
    /// The host does not let it.
    pub fn enter(&self) -> io::Result<()> {
        let namespaces = match self.user {
            Some(_) => libc::CLONE_NEWNS | libc::CLONE_NEWUSER,
            None => libc::CLONE_NEWNS,
        };
        // SAFETY: a plain system call; the process has one thread.
        check(unsafe { libc::unshare(namespaces) })?;
        if let Some((user, group)) = self.user {
            write("/proc/self/setgroups", "deny")?;
            write("/proc/self/uid_map", &format!("0 {user} 1"))?;
            write("/proc/self/gid_map", &format!("0 {group} 1"))?;
        }
        mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)?;
        mount(Some(c"tmpfs"), &place("")?, Some(c"tmpfs"), 0, None)?;
        for name in ["upper", "work", "root"] {
            std::fs::create_dir(Path::new(PLACE).join(name))?;
        }
        let root = place("root")?;
        let overlay = Some(c"overlay");
        mount(overlay, &root, overlay, 0, Some(&self.options))?;
        for bind in &self.binds {
            // Where an earlier one shows the host already, nothing is made.
            match bind.is_file {
                false => std::fs::create_dir_all(&bind.target)?,
                true if bind.target.exists() => {}
                true => {
                    if let Some(parent) = bind.target.parent() {
                        std::fs::create_dir_all(parent)?;
                    }
                    File::create_new(&bind.target)?;
                }
            }
            let target = CString::new(bind.target.as_os_str().as_bytes())?;
            let flags = libc::MS_BIND | libc::MS_REC;
            mount(Some(&bind.source), &target, None, flags, None)?;
        }
        // SAFETY: a valid string.
        check(unsafe { libc::chroot(root.as_ptr()) })?;
        std::env::set_current_dir(&self.directory).or_else(|_| std::env::set_current_dir("/"))
    }
}

/// Where a path of the host is while the tree is put together.
fn inside(path: &Path) -> PathBuf {
    let relative = path.strip_prefix("/").unwrap_or(path);
    Path::new(PLACE).join("root").join(relative)
}

fn place(name: &str) -> io::Result<CString> {
    let path = Path::new(PLACE).join(name);
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn c_string(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Path(path.to_owned()))
}

fn write(path: &str, text: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: valid strings, or null where that is allowed.
    check(unsafe {
        libc::mount(
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags,
            pointer(options).cast(),
        )
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_listed_topmost_first() {
        let rootfs = Rootfs::new(&["/usr".into(), "/etc".into()], &[], Path::new("/")).unwrap();
        let options = rootfs.options.to_str().unwrap();
        assert!(
            options.starts_with("lowerdir=/usr:/etc,upperdir="),
            "{options}"
        );
    }

    #[test]
    fn a_layer_that_is_missing_or_cannot_be_named_is_refused() {
        let missing = Rootfs::new(&["/no/such/tree".into()], &[], Path::new("/"));
        assert!(matches!(missing, Err(Error::Missing { .. })));
        let directory = tempfile::Builder::new().prefix("a:b").tempdir().unwrap();
        let unnameable = Rootfs::new(&[directory.path().to_owned()], &[], Path::new("/"));
        assert!(matches!(unnameable, Err(Error::Path(_))));
    }
}
