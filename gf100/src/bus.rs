//! The card's side of the slot it is plugged into.

/// How the card's interrupt reaches the machine. DMA goes through
/// [`DmaSpace`](crate::memory::DmaSpace), which the machine fills.
pub trait Bus: Send + Sync {
    /// Sends the card's one MSI. Called from any thread, possibly often: it must not block.
    fn msi(&self);

    /// Drives the INTx pin, when software left MSI off.
    fn intx(&self, level: bool);
}

/// A slot with nothing at its interrupt pins.
#[derive(Debug, Default)]
pub struct NoInterrupts;

impl Bus for NoInterrupts {
    fn msi(&self) {}
    fn intx(&self, _level: bool) {}
}
