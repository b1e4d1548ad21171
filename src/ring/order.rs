//! The orderings that the ring's correctness rests on, by name, so that the loom model can take each of
//! them away and must then find a failure. In a normal build this is nothing but the ordering itself.

use super::Ordering;

/// Where an ordering stronger than relaxed is needed, and what it pairs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Spot {
    /// Producer: a record's bytes are written. Pairs with [`Spot::TakeLoad`].
    Commit = 1,
    /// Producer: a pad is there. Pairs with [`Spot::TakeLoad`]. A pad publishes no bytes, so nothing
    /// fails without it; it is as strong as a record's so that `state` has one rule.
    CommitPad = 2,
    /// Consumer: a record's state. Pairs with [`Spot::Commit`].
    TakeLoad = 3,
    /// Consumer: bytes are zeroed and given back. Pairs with [`Spot::ReleasedLoad`].
    ReleasedStore = 4,
    /// Producer: what was given back. Pairs with [`Spot::ReleasedStore`].
    ReleasedLoad = 5,
    /// Producer: the claim. Pairs with [`Spot::SleepClaim`].
    ClaimTaken = 6,
    /// Consumer: the claim is looked at after the flag was raised. Pairs with [`Spot::ClaimTaken`].
    SleepClaim = 7,
    /// A waiter: the demand. Pairs with [`Spot::SleepDemand`].
    DemandRaised = 8,
    /// Consumer: the demand is looked at after the flag was raised. Pairs with [`Spot::DemandRaised`].
    SleepDemand = 9,
}

/// The ordering at a spot.
#[cfg(not(loom))]
#[inline(always)]
pub const fn at(_spot: Spot, strong: Ordering) -> Ordering {
    strong
}

/// The ordering at a spot: relaxed where the model has taken it away.
#[cfg(loom)]
pub fn at(spot: Spot, strong: Ordering) -> Ordering {
    match WEAKENED.load(Ordering::SeqCst) == spot as u32 {
        true => Ordering::Relaxed,
        false => strong,
    }
}

/// The number of the spot that is taken away; 0 for none. One model runs at a time.
#[cfg(loom)]
pub static WEAKENED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
