//! The vfio-user front end against clients that keep to the protocol, and clients that do not.

mod peer;
mod script;

use std::io::{Read, Write};
use std::path::Path;

use proptest::prelude::*;

use peer::{
    BOOT_0, Client, DEVICE_RESET, ERROR, GET_REGION_IO_FDS, HEADER, REGION_READ, REGION_WRITE,
    VERSION, access, header, serve,
};

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

#[test]
fn a_client_that_goes_on_after_an_unsupported_request_harms_itself_alone() {
    let served = serve();
    // The payload is left in the stream, so what follows is read out of step: half a header, one
    // that asks for a reset, one that promises more than it brings.
    let reset = header(DEVICE_RESET, HEADER);
    let write = header(REGION_WRITE, 1 << 30);
    for payload in [&[0xff; 8][..], &[0; 40], &reset, &write] {
        let mut client = Client::connect(&served);
        client.send(GET_REGION_IO_FDS, payload);
        let (flags, _) = client.receive().unwrap();
        assert_ne!(flags & ERROR, 0);
        client.send(REGION_READ, &access(0, 0, 4));
        client.0.shutdown(std::net::Shutdown::Write).unwrap();
        // Whatever it answers, it ends.
        let _ = client.0.read_to_end(&mut Vec::new());
        assert_eq!(Client::connect(&served).boot0(), BOOT_0);
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_leave_the_server_up() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/vfio_user_messages");
    let mut played = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        script::run(&serve(), &std::fs::read(seed.unwrap().path()).unwrap());
        played += 1;
    }
    assert!(played > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_of_a_client_stop_the_server(script in prop::collection::vec(any::<u8>(), 0..400)) {
        script::run(&serve(), &script);
    }

    #[test]
    fn no_messages_of_a_client_stop_the_server(
        greet: bool,
        messages in prop::collection::vec(
            (0u8..20, any::<Option<u32>>(), prop::collection::vec(any::<u8>(), 0..80)),
            1..8,
        ),
    ) {
        let mut bytes = vec![greet.into()];
        for (command, size, payload) in messages {
            bytes.extend([command, payload.len() as u8, size.is_some().into()]);
            bytes.extend(size.into_iter().flat_map(u32::to_le_bytes));
            bytes.extend(payload);
        }
        script::run(&serve(), &bytes);
    }
}
