//! A served card, and a client as QEMU is one, as far as tests go.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gf100::{Card, Config};
use vmm::vfio_user::{Irqs, Server, SocketFile};

pub const VERSION: u16 = 1;
pub const GET_REGION_IO_FDS: u16 = 6;
pub const REGION_READ: u16 = 9;
pub const REGION_WRITE: u16 = 10;
pub const DEVICE_RESET: u16 = 13;

pub const HEADER: usize = 16;
const REPLY: u32 = 1;
pub const ERROR: u32 = 1 << 5;

/// A served card. Its thread ends with the process.
pub struct Served {
    path: PathBuf,
    _socket: SocketFile,
    _dir: tempfile::TempDir,
}

pub fn serve() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("card");
    let irqs = Arc::new(Irqs::default());
    let card = Arc::new(Card::new(Config::quadro_6000(64 << 20), irqs.clone()).unwrap());
    let (server, socket) = Server::bind(&path, &card).unwrap();
    std::thread::spawn(move || server.run(&card, &irqs));
    Served {
        path,
        _socket: socket,
        _dir: dir,
    }
}

/// A client as QEMU is one, as far as these tests go.
pub struct Client(pub UnixStream);

impl Client {
    pub fn raw(served: &Served) -> UnixStream {
        let stream = UnixStream::connect(&served.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    pub fn connect(served: &Served) -> Self {
        let mut client = Self(Self::raw(served));
        let mut payload = vec![0, 0, 0, 0];
        payload.extend_from_slice(b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
        client.send(VERSION, &payload);
        let (flags, _) = client.receive().unwrap();
        assert_eq!(flags & ERROR, 0);
        client
    }

    pub fn send(&mut self, command: u16, payload: &[u8]) {
        let mut message = header(command, HEADER + payload.len());
        message.extend_from_slice(payload);
        self.0.write_all(&message).unwrap();
    }

    /// The flags and the payload of a reply.
    pub fn receive(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; HEADER];
        self.0.read_exact(&mut header)?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(4) as usize - HEADER];
        self.0.read_exact(&mut payload)?;
        assert_eq!(word(8) & REPLY, REPLY);
        Ok((word(8), payload))
    }

    pub fn region_read(&mut self, region: u32, offset: u64, count: u32) -> (u32, Vec<u8>) {
        self.send(REGION_READ, &access(region, offset, count));
        let (flags, payload) = self.receive().unwrap();
        (flags, payload.get(16..).unwrap_or_default().to_vec())
    }

    pub fn boot0(&mut self) -> u32 {
        let (_, data) = self.region_read(0, 0, 4);
        u32::from_le_bytes(data.try_into().unwrap())
    }
}

pub fn header(command: u16, size: usize) -> Vec<u8> {
    let mut header = vec![1, 0];
    header.extend_from_slice(&command.to_le_bytes());
    header.extend_from_slice(&(size as u32).to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    header
}

pub fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut payload = offset.to_le_bytes().to_vec();
    payload.extend_from_slice(&region.to_le_bytes());
    payload.extend_from_slice(&count.to_le_bytes());
    payload
}

/// What the card says first of itself.
pub const BOOT_0: u32 = 0x0c00_00a3;
