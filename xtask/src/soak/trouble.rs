//! What befalls the stack.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::outages::Outages;
use super::stack::{NETWORK, Stack, VAULT};
use crate::error::Result;

/// One kind of trouble, which comes and goes.
pub(super) trait Trouble {
    /// What is down meanwhile.
    fn what(&self) -> &'static str;

    /// For how long all goes well in between, and for how long it does not, in milliseconds.
    fn times(&self) -> (Range<u64>, Range<u64>);

    fn begin(&mut self, stack: &mut Stack) -> Result<()>;

    fn end(&mut self, stack: &mut Stack) -> Result<()>;
}

/// `bootstrap run` is killed, or told to stop, and started again.
#[derive(Default)]
pub(super) struct BootstrapDown {
    times: usize,
}

impl Trouble for BootstrapDown {
    fn what(&self) -> &'static str {
        "bootstrap run"
    }

    fn times(&self) -> (Range<u64>, Range<u64>) {
        // From the middle of its first look on, and for up to a life of a secret ID.
        (200..9_000, 0..15_000)
    }

    fn begin(&mut self, stack: &mut Stack) -> Result<()> {
        self.times += 1;
        stack.stop_bootstrap(self.times.is_multiple_of(4))
    }

    fn end(&mut self, stack: &mut Stack) -> Result<()> {
        stack.start_bootstrap()
    }
}

/// Vault stops, and comes back sealed.
pub(super) struct VaultDown;

impl Trouble for VaultDown {
    fn what(&self) -> &'static str {
        VAULT
    }

    fn times(&self) -> (Range<u64>, Range<u64>) {
        (20_000..60_000, 0..12_000)
    }

    fn begin(&mut self, stack: &mut Stack) -> Result<()> {
        stack.stop_vault();
        Ok(())
    }

    fn end(&mut self, stack: &mut Stack) -> Result<()> {
        stack.start_vault()
    }
}

/// Vault is sealed, and unsealed again.
pub(super) struct VaultSealed;

impl Trouble for VaultSealed {
    fn what(&self) -> &'static str {
        VAULT
    }

    fn times(&self) -> (Range<u64>, Range<u64>) {
        (20_000..60_000, 0..20_000)
    }

    fn begin(&mut self, stack: &mut Stack) -> Result<()> {
        stack.seal()
    }

    fn end(&mut self, stack: &mut Stack) -> Result<()> {
        stack.unseal()
    }
}

/// Between the agents and Vault the network refuses connections, resets them, or is a black hole.
#[derive(Default)]
pub(super) struct NetworkCut {
    times: usize,
}

impl Trouble for NetworkCut {
    fn what(&self) -> &'static str {
        NETWORK
    }

    fn times(&self) -> (Range<u64>, Range<u64>) {
        // Up to more than a token's life, and than a request's time-out.
        (6_000..25_000, 0..20_000)
    }

    fn begin(&mut self, stack: &mut Stack) -> Result<()> {
        self.times += 1;
        for agent in stack.agents() {
            let network = agent.network();
            match self.times % 3 {
                0 => network.set(harness::Trouble::Refuse),
                1 => network.set(harness::Trouble::BlackHole),
                _ => network.set(harness::Trouble::Reset(20)),
            }
            // A black hole ends no connection.
            if self.times % 3 != 1 {
                network.cut();
            }
        }
        Ok(())
    }

    fn end(&mut self, stack: &mut Stack) -> Result<()> {
        stack.agents().iter().for_each(|agent| agent.network().set(harness::Trouble::None));
        Ok(())
    }
}

/// Somebody revokes the token of one agent after the other.
#[derive(Default)]
pub(super) struct TokenRevoked {
    times: usize,
}

impl Trouble for TokenRevoked {
    fn what(&self) -> &'static str {
        "an agent's token"
    }

    fn times(&self) -> (Range<u64>, Range<u64>) {
        (1_000..8_000, 0..1)
    }

    fn begin(&mut self, stack: &mut Stack) -> Result<()> {
        self.times += 1;
        stack.revoke_token(self.times)
    }

    fn end(&mut self, _: &mut Stack) -> Result<()> {
        Ok(())
    }
}

/// The course that one kind of trouble takes.
pub(super) struct Course {
    trouble: Box<dyn Trouble>,
    is_on: bool,
    next: Instant,
}

impl Course {
    /// All goes well at first.
    pub(super) fn begin(trouble: Box<dyn Trouble>, chance: &mut Chance) -> Self {
        let well = chance.within(trouble.times().0);
        Self { trouble, is_on: false, next: Instant::now() + well }
    }

    /// Begins or ends the trouble where that is due. Two that bring the same thing down take turns.
    pub(super) fn go_on(
        &mut self,
        stack: &mut Stack,
        outages: &mut Outages,
        chance: &mut Chance,
    ) -> Result<()> {
        let what = self.trouble.what();
        if Instant::now() < self.next || (!self.is_on && outages.is_down(what)) {
            return Ok(());
        }
        let (well, ill) = self.trouble.times();
        if self.is_on {
            self.end(stack, outages)?;
            self.next = Instant::now() + chance.within(well);
        } else {
            outages.begin(what);
            self.trouble.begin(stack)?;
            (self.is_on, self.next) = (true, Instant::now() + chance.within(ill));
        }
        Ok(())
    }

    /// Ends the trouble where it is on.
    pub(super) fn end(&mut self, stack: &mut Stack, outages: &mut Outages) -> Result<()> {
        if std::mem::take(&mut self.is_on) {
            self.trouble.end(stack)?;
            outages.end(self.trouble.what());
        }
        Ok(())
    }
}

/// Chance that can be had again: `SplitMix64`.
pub(super) struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    /// With the seed, or a new one.
    pub(super) fn new(seed: Option<u64>) -> Self {
        let new = || u64::from_str_radix(&harness::random_token()[..8], 16).unwrap_or_default();
        let seed = seed.unwrap_or_else(new);
        Self { seed, state: seed }
    }

    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    /// A time in this range of milliseconds.
    pub(super) fn within(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.draw() % (range.end - range.start).max(1))
    }

    /// One of so many, counted from 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.draw() % count.max(1) as u64).unwrap_or_default()
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut drawn = self.state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        drawn ^ (drawn >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_course() {
        let draw = |seed| {
            let mut chance = Chance::new(Some(seed));
            (0..20).map(|_| chance.within(100..5_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|time| (100..5_000).contains(&time.as_millis())));
        assert!(Chance::new(None).seed() != Chance::new(None).seed());
    }
}
