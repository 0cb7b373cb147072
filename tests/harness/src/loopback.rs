//! Addresses and names that no other test has.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::error::{Error, Result};

/// `N` free ports on one random address in 127.0.0.0/8.
///
/// The ports are not held: nobody else takes them, since nobody else knows the address.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let [a, b, c] = random();
    let ip = Ipv4Addr::new(127, a.clamp(1, 254), b, c.clamp(1, 254));
    let bind = || TcpListener::bind((ip, 0)).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(bind().map_err(Error::io(format!("bind a port on {ip}")))?);
    }
    Ok(std::array::from_fn(|index| held[index].0))
}

/// A random address in 127.0.0.0/8 with a port that is free there, for a test's own listener.
pub fn free_address() -> Result<SocketAddr> {
    free_addresses::<1>().map(|[address]| address)
}

/// 32 random hexadecimal digits: a password, or a name nobody else has.
#[must_use]
pub fn random_token() -> String {
    use std::fmt::Write as _;
    random::<16>().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_loopback_and_free() {
        let [first, second] = free_addresses::<2>().unwrap();
        assert!(first.ip().is_loopback());
        assert_eq!(first.ip(), second.ip());
        assert_ne!(first.port(), second.port());
        TcpListener::bind(first).unwrap();
    }

    #[test]
    fn tokens_are_32_digits_and_differ() {
        let (one, other) = (random_token(), random_token());
        assert!(one.len() == 32 && one.chars().all(|digit| digit.is_ascii_hexdigit()), "{one}");
        assert_ne!(one, other);
    }
}
