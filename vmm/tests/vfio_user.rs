//! The vfio-user front end against clients that keep to the protocol, and clients that do not.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gf100::{Card, Config};
use proptest::prelude::*;
use vmm::vfio_user::{Irqs, Server, SocketFile};

const VERSION: u16 = 1;
const GET_REGION_IO_FDS: u16 = 6;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;

const HEADER: usize = 16;
const REPLY: u32 = 1;
const ERROR: u32 = 1 << 5;

/// A served card. Its thread ends with the process.
struct Served {
    path: PathBuf,
    _socket: SocketFile,
    _dir: tempfile::TempDir,
}

fn serve() -> Served {
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
struct Client(UnixStream);

impl Client {
    fn raw(served: &Served) -> UnixStream {
        let stream = UnixStream::connect(&served.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn connect(served: &Served) -> Self {
        let mut client = Self(Self::raw(served));
        let mut payload = vec![0, 0, 0, 0];
        payload.extend_from_slice(b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
        client.send(VERSION, &payload);
        let (flags, _) = client.receive().unwrap();
        assert_eq!(flags & ERROR, 0);
        client
    }

    fn send(&mut self, command: u16, payload: &[u8]) {
        let mut message = header(command, HEADER + payload.len());
        message.extend_from_slice(payload);
        self.0.write_all(&message).unwrap();
    }

    /// The flags and the payload of a reply.
    fn receive(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let mut header = [0; HEADER];
        self.0.read_exact(&mut header)?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(4) as usize - HEADER];
        self.0.read_exact(&mut payload)?;
        assert_eq!(word(8) & REPLY, REPLY);
        Ok((word(8), payload))
    }

    fn region_read(&mut self, region: u32, offset: u64, count: u32) -> (u32, Vec<u8>) {
        self.send(REGION_READ, &access(region, offset, count));
        let (flags, payload) = self.receive().unwrap();
        (flags, payload.get(16..).unwrap_or_default().to_vec())
    }

    fn boot0(&mut self) -> u32 {
        let (_, data) = self.region_read(0, 0, 4);
        u32::from_le_bytes(data.try_into().unwrap())
    }
}

fn header(command: u16, size: usize) -> Vec<u8> {
    let mut header = vec![1, 0];
    header.extend_from_slice(&command.to_le_bytes());
    header.extend_from_slice(&(size as u32).to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    header
}

fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut payload = offset.to_le_bytes().to_vec();
    payload.extend_from_slice(&region.to_le_bytes());
    payload.extend_from_slice(&count.to_le_bytes());
    payload
}

const BOOT_0: u32 = 0x0c00_00a3;

#[test]
fn a_second_client_finds_a_reset_card() {
    let served = serve();
    let mut client = Client::connect(&served);
    let mut write = access(0, 0x00ab_cdec, 4);
    write.extend_from_slice(&7u32.to_le_bytes());
    client.send(REGION_WRITE, &write);
    client.receive().unwrap();
    assert_eq!(client.region_read(0, 0x00ab_cdec, 4).1, 7u32.to_le_bytes());
    drop(client);
    let mut client = Client::connect(&served);
    assert_eq!(client.region_read(0, 0x00ab_cdec, 4).1, [0; 4]);
    assert_eq!(client.boot0(), BOOT_0);
}

#[test]
fn a_malformed_version_ends_its_connection_only() {
    let served = serve();
    for (size, payload) in [
        // No terminator, no JSON, and shorter than a version can be.
        (HEADER + 8, &b"\0\0\0\0abcd"[..]),
        (HEADER + 8, b"\0\0\0\0abc\0"),
        (HEADER, b""),
    ] {
        let mut stream = Client::raw(&served);
        let mut message = header(VERSION, size);
        message.extend_from_slice(payload);
        stream.write_all(&message).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Whatever it answers, it ends.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(Client::connect(&served).boot0(), BOOT_0);
}

#[test]
fn a_transfer_beyond_the_announced_size_is_refused() {
    let served = serve();
    let mut client = Client::connect(&served);
    let (flags, data) = client.region_read(0, 0, 256 << 20);
    assert_ne!(flags & ERROR, 0);
    assert!(data.is_empty());
    assert_eq!(client.boot0(), BOOT_0);
}

#[test]
fn reads_outside_a_bar_give_ones() {
    let served = serve();
    let mut client = Client::connect(&served);
    assert_eq!(client.region_read(0, 32 << 20, 4).1, [0xff; 4]);
    assert_eq!(client.region_read(0, u64::MAX, 4).1, [0xff; 4]);
    assert_eq!(client.region_read(2, 0, 4).1, [0xff; 4]);
}

#[test]
fn an_unsupported_request_is_refused_and_the_next_client_served() {
    let served = serve();
    let mut client = Client::connect(&served);
    client.send(GET_REGION_IO_FDS, &[0; 16]);
    let (flags, _) = client.receive().unwrap();
    assert_ne!(flags & ERROR, 0);
    drop(client);
    assert_eq!(Client::connect(&served).boot0(), BOOT_0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_bytes_of_a_client_stop_the_server(
        messages in prop::collection::vec(
            (0u16..20, any::<u32>(), prop::collection::vec(any::<u8>(), 0..80), any::<bool>()),
            1..8,
        ),
        greet: bool,
    ) {
        let served = serve();
        let mut stream = match greet {
            true => Client::connect(&served).0,
            false => Client::raw(&served),
        };
        for (command, size, payload, honest) in messages {
            let size = if honest { HEADER + payload.len() } else { size as usize };
            let mut message = header(command, size);
            message.extend_from_slice(&payload);
            if stream.write_all(&message).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
        drop(stream);
        prop_assert_eq!(Client::connect(&served).boot0(), BOOT_0);
    }
}
