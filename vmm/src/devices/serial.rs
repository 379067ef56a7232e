//! The serial port: a 16550 behind the machine's first port range.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};
use vm_superio::serial::SerialEvents;
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::EventFd;

/// The port's interrupt.
#[derive(Debug)]
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Tells the console when the guest has read all input.
#[derive(Debug)]
struct Drained(EventFd);

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        // The console looks at the port again whenever the count is not zero.
        let _ = self.0.write(1);
    }
}

/// A serial port that writes to `W`.
pub struct Serial<W: Write>(Mutex<Uart<Interrupt, Drained, W>>);

impl<W: Write> Serial<W> {
    /// A port that raises `interrupt`, sends to `out`, and writes `drained` when its input
    /// buffer runs empty.
    pub fn new(interrupt: EventFd, drained: EventFd, out: W) -> Arc<Self> {
        let uart = Uart::with_events(Interrupt(interrupt), Drained(drained), out);
        Arc::new(Serial(Mutex::new(uart)))
    }

    /// Puts input into the port's buffer; returns how many bytes found room.
    pub fn receive(&self, input: &[u8]) -> usize {
        let mut uart = self.0.lock();
        let room = uart.fifo_capacity().min(input.len());
        if room == 0 {
            return 0;
        }
        // In loop-back mode the port takes nothing: what was typed then is lost, as on a wire.
        let _ = uart.enqueue_raw_bytes(&input[..room]);
        room
    }
}

impl<W: Write + Send> DevicePio for Serial<W> {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        for byte in data {
            *byte = self.0.lock().read(offset as u8);
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        for byte in data {
            // A reader that went away loses output; the guest goes on.
            let _ = self.0.lock().write(offset as u8, *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn event() -> EventFd {
        EventFd::new(EFD_NONBLOCK).unwrap()
    }

    #[test]
    fn written_byte_comes_out() {
        let port = Serial::new(event(), event(), Vec::new());

        port.pio_write(PioAddress(0x3f8), 0, b"A");

        assert_eq!(port.0.lock().writer(), b"A");
    }

    #[test]
    fn input_beyond_the_buffer_waits_for_the_guest() {
        let drained = event();
        let port = Serial::new(event(), drained.try_clone().unwrap(), Vec::new());

        let taken = port.receive(&[b'x'; 100]);

        assert!(taken < 100);
        assert_eq!(port.receive(b"y"), 0);
        assert!(drained.read().is_err());
        for _ in 0..taken {
            port.pio_read(PioAddress(0x3f8), 0, &mut [0]);
        }
        assert!(drained.read().is_ok());
    }
}
