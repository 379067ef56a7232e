//! The answering side of the control socket.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventOps, Events, MutEventSubscriber};
use tracing::debug;
use vmm_sys_util::epoll::EventSet;

use super::{Fleet, Reply};
use crate::io::watch;

/// Most clients at a time.
const MOST_CLIENTS: usize = 16;
/// Longest request.
const LONGEST_LINE: usize = 64 << 10;
/// How long a client may take to read its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The control socket of a process. Its file goes with it.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<RawFd, Connection>,
    fleet: Arc<Fleet>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
}

impl ControlServer {
    /// Listens at `path` for requests that `fleet` performs. A socket that somebody left behind
    /// there is replaced.
    pub fn bind(path: &Path, fleet: Arc<Fleet>) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let file = std::fs::symlink_metadata(path)?;
                if !file.file_type().is_socket() || UnixStream::connect(path).is_ok() {
                    return Err(error);
                }
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            result => result?,
        };
        listener.set_nonblocking(true)?;
        Ok(ControlServer {
            listener,
            path: path.into(),
            clients: BTreeMap::new(),
            fleet,
        })
    }

    fn accept(&mut self, ops: &mut EventOps) {
        // A client that gave up in the meantime is no error.
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let ready = stream.set_write_timeout(Some(PATIENCE)).is_ok();
        if self.clients.len() >= MOST_CLIENTS || !ready {
            debug!("client refused");
            return;
        }
        if watch(ops, Events::new(&stream, EventSet::IN)) {
            let line = Vec::new();
            self.clients
                .insert(stream.as_raw_fd(), Connection { stream, line });
        }
    }
}

impl Connection {
    /// Reads what is there and answers whole lines; `false` when the client is to go.
    fn serve(&mut self, fleet: &Fleet) -> bool {
        let mut bytes = [0; 4096];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == io::ErrorKind::Interrupted,
        };
        self.line.extend_from_slice(&bytes[..count]);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            if self.answer(&line, fleet).is_err() {
                return false;
            }
        }
        self.line.len() <= LONGEST_LINE
    }

    fn answer(&mut self, line: &[u8], fleet: &Fleet) -> io::Result<()> {
        let reply = match serde_json::from_slice(line) {
            Ok(request) => fleet.perform(&request),
            Err(error) => Reply::Error(format!("not an action: {error}")),
        };
        let mut answer = serde_json::to_vec(&reply)?;
        answer.push(b'\n');
        self.stream.write_all(&answer)
    }
}

impl MutEventSubscriber for ControlServer {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(&self.listener, EventSet::IN));
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let fd = events.fd();
        if fd == self.listener.as_raw_fd() {
            self.accept(ops);
        } else if let Some(client) = self.clients.get_mut(&fd)
            && !client.serve(&self.fleet)
        {
            // Its descriptor is closed behind this, which would end the watch as well.
            let _ = ops.remove(Events::empty(&client.stream));
            self.clients.remove(&fd);
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Action, Client, Controller, Request, RunState, Seat};
    use crate::ending::Ending;
    use crate::io::{Subscriber, serve};
    use crate::metrics::Metrics;
    use crate::seccomp::SeccompMode;

    fn fleet() -> Arc<Fleet> {
        let seat = Seat::new("vm0");
        seat.occupy(Controller::for_test());
        Arc::new(Fleet::new(vec![seat], Metrics::default()).unwrap())
    }

    fn for_all(action: Action) -> Request {
        Request { vm: None, action }
    }

    /// Serves a machine without processors while `talk` runs.
    fn with_server(talk: impl FnOnce(&Path)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let fleet = fleet();
        let server = ControlServer::bind(&path, Arc::clone(&fleet)).unwrap();
        let closed = Arc::clone(fleet.closed());
        let thread = std::thread::spawn(move || {
            let subscribers: Vec<Subscriber> = vec![Box::new(server)];
            serve(subscribers, &closed, SeccompMode::On).unwrap();
        });
        talk(&path);
        fleet.closed().pull(Ending::Stopped);
        thread.join().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn client_gets_an_answer_to_each_action() {
        with_server(|path| {
            let mut client = Client::connect(path).unwrap();
            assert_eq!(client.call(&for_all(Action::Pause)).unwrap(), Reply::Done);
            let Reply::Status(status) = client.call(&for_all(Action::Status)).unwrap() else {
                panic!("no status");
            };
            assert_eq!(status.state, RunState::Paused);
            assert_eq!(client.call(&for_all(Action::Stop)).unwrap(), Reply::Done);
        });
    }

    #[test]
    fn nonsense_is_answered_and_an_endless_line_is_cut_off() {
        with_server(|path| {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(b"nonsense\n").unwrap();
            let mut answer = [0; 9];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"{\"error\":");

            let mut stream = UnixStream::connect(path).unwrap();
            let flood = vec![b'x'; 2 * LONGEST_LINE];
            // The server hangs up before or after the last byte.
            let _ = stream.write_all(&flood);
            assert!(!matches!(stream.read(&mut answer), Ok(1..)));

            let mut client = Client::connect(path).unwrap();
            assert_eq!(client.call(&for_all(Action::Stop)).unwrap(), Reply::Done);
        });
    }

    #[test]
    fn socket_in_use_is_left_alone_and_a_stale_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        let fleet = fleet();

        let _server = ControlServer::bind(&path, Arc::clone(&fleet)).unwrap();

        let error = ControlServer::bind(&path, fleet).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn file_that_is_no_socket_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();

        let error = ControlServer::bind(file.path(), fleet()).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(file.path().exists());
    }
}
