//! What key shares say about each other, without a server being asked.
//!
//! A share is one point of a polynomial in each byte of the key, over the field of 256 elements with the
//! polynomial x⁸+x⁴+x³+x+1, its last byte the point's place (Vault's `shamir` package). As many shares as the
//! threshold determine the polynomial, so that every further one either lies on it or is damaged. The key
//! itself, the polynomial's value at zero, is never computed here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// Above this many combinations the rest is left out: nobody's shares are so many.
const MAX_COMBINATIONS: usize = 10_000;

/// Shares that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// As many as the threshold, to be offered to the server; indices, in order.
    pub(crate) offer: Vec<usize>,
    /// All that lie on one polynomial with them, themselves included.
    pub(crate) agreeing: Vec<usize>,
}

/// The ways to choose `threshold` of the shares, those that most others agree with first.
///
/// Each polynomial is there once: whoever refuses it once refuses all its shares. A share that is none (no
/// base64, no hexadecimal, of another length) is in none.
pub(crate) fn candidates(shares: &[&SecretString], threshold: usize) -> Vec<Candidate> {
    let points: Vec<Option<Point>> = shares.iter().map(|share| Point::parse(share)).collect();
    if threshold < 2 {
        // The only share is the key itself.
        let alone = |index| Candidate { offer: vec![index], agreeing: vec![index] };
        return (0..points.len()).filter(|&index| points[index].is_some()).map(alone).collect();
    }
    let mut found: Vec<Candidate> = Vec::new();
    for offer in combinations(points.len(), threshold).take(MAX_COMBINATIONS) {
        let chosen: Vec<&Point> = offer.iter().filter_map(|&index| points[index].as_ref()).collect();
        let is_known = || found.iter().any(|known| offer.iter().all(|index| known.agreeing.contains(index)));
        if chosen.len() < threshold || !are_distinct(&chosen) || is_known() {
            continue;
        }
        let agrees = |point: &Point| *value_at(&chosen, point.place) == *point.values;
        let agreeing = points.iter().enumerate().filter(|(_, point)| point.as_ref().is_some_and(agrees));
        let agreeing = agreeing.map(|(index, _)| index).collect();
        found.push(Candidate { offer, agreeing });
    }
    found.sort_by_key(|candidate| std::cmp::Reverse(candidate.agreeing.len()));
    found
}

/// A decoded share.
struct Point {
    place: u8,
    values: Zeroizing<Vec<u8>>,
}

impl Point {
    fn parse(share: &SecretString) -> Option<Self> {
        let text = share.expose_secret();
        // Hexadecimal is base64 as well, of another length: what the server makes of it counts.
        let mut values = Zeroizing::new(from_hex(text).or_else(|| BASE64.decode(text).ok())?);
        let place = values.pop()?;
        (!values.is_empty()).then_some(Self { place, values })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Whether the points have one length, and no two of them one place: only so do they determine a polynomial.
fn are_distinct(points: &[&Point]) -> bool {
    points.iter().enumerate().all(|(index, point)| {
        point.values.len() == points[0].values.len()
            && points[..index].iter().all(|earlier| earlier.place != point.place)
    })
}

/// Lagrange's interpolation: the value at `place` of the polynomial through `points`.
fn value_at(points: &[&Point], place: u8) -> Zeroizing<Vec<u8>> {
    let mut value = Zeroizing::new(vec![0; points[0].values.len()]);
    for point in points {
        let others = points.iter().filter(|other| other.place != point.place);
        let weight = others.fold(1, |weight, other| {
            multiply(weight, divide(place ^ other.place, point.place ^ other.place))
        });
        for (sum, byte) in value.iter_mut().zip(point.values.iter()) {
            *sum ^= multiply(weight, *byte);
        }
    }
    value
}

fn multiply(mut one: u8, mut other: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= one & 0u8.wrapping_sub(other & 1);
        one = (one << 1) ^ (0x1b & 0u8.wrapping_sub(one >> 7));
        other >>= 1;
    }
    product
}

/// The divisor is not zero: two places that differ have a difference.
fn divide(dividend: u8, divisor: u8) -> u8 {
    // Of 255 units each one's 254th power is its inverse.
    let inverse = (0..254).fold(1, |power, _| multiply(power, divisor));
    multiply(dividend, inverse)
}

/// Every way to take `size` of `count`, the first ones first.
fn combinations(count: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut next = (size <= count).then(|| (0..size).collect::<Vec<_>>());
    std::iter::from_fn(move || {
        let current = next.take()?;
        // The last index that can still move on does, and the ones behind it follow close up.
        if let Some(place) = (0..size).rev().find(|&place| current[place] < count - size + place) {
            let mut following = current.clone();
            following[place] += 1;
            for behind in place + 1..size {
                following[behind] = following[behind - 1] + 1;
            }
            next = Some(following);
        }
        Some(current)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Made by an OpenBao 2.7.2 that no longer is: 5 shares, threshold 3.
    pub(crate) const SHARES: [&str; 5] = [
        "BXEiufZpae6JH5ZS5+6wzVAD3dVcJcJbuWFU8i4TRkGt",
        "QZY5PHdvkr9ZUTdE/tW1PYdUeyAns40b33yKG3WWcH5r",
        "vYpUNNf83zUIqLlp3n07Reb/Sd5srCg28w8+ppzu3GyW",
        "gjW156+Vy57Xvyu2IgsHqIhrVlRQOoz+RZPXYXYS2ld5",
        "MlZYiKcfJdJdX7ua/Aq9aeD1/9My2u3YlL03t1fixe0U",
    ];

    fn candidates_of(shares: &[&str], threshold: usize) -> Vec<Candidate> {
        let shares: Vec<SecretString> = shares.iter().map(|&share| share.into()).collect();
        candidates(&shares.iter().collect::<Vec<_>>(), threshold)
    }

    /// The share with one bit of its value changed.
    fn damaged(share: &str) -> String {
        let mut bytes = BASE64.decode(share).unwrap();
        bytes[0] ^= 1;
        BASE64.encode(bytes)
    }

    #[test]
    fn five_good_shares_are_one_candidate() {
        let found = candidates_of(&SHARES, 3);
        assert_eq!(found, [Candidate { offer: vec![0, 1, 2], agreeing: vec![0, 1, 2, 3, 4] }]);
    }

    #[test]
    fn one_damaged_share_is_found_without_a_server() {
        let bad = damaged(SHARES[1]);
        let found = candidates_of(&[SHARES[0], &bad, SHARES[2], SHARES[3], SHARES[4]], 3);
        assert_eq!(found[0], Candidate { offer: vec![0, 2, 3], agreeing: vec![0, 2, 3, 4] });
    }

    #[test]
    fn what_is_no_share_is_never_offered() {
        let found = candidates_of(&["", "?", SHARES[2], SHARES[3], SHARES[4]], 3);
        assert_eq!(found, [Candidate { offer: vec![2, 3, 4], agreeing: vec![2, 3, 4] }]);
        // The same share twice does not count twice, and one of another length belongs to nothing.
        assert_eq!(candidates_of(&[SHARES[0], SHARES[0], SHARES[1], "AAAA"], 3), []);
        assert_eq!(candidates_of(&SHARES[..2], 3), []);
    }

    #[test]
    fn hexadecimal_is_a_share_too() {
        // The first share, written the other way.
        let hex = "057122b9f66969ee891f9652e7eeb0cd5003ddd55c25c25bb96154f22e134641ad";
        let found = candidates_of(&[hex, SHARES[1], SHARES[2], SHARES[3]], 3);
        assert_eq!(found[0].agreeing, [0, 1, 2, 3]);
    }

    #[test]
    fn a_single_share_is_offered_as_it_is() {
        let found = candidates_of(&["AAEC"], 1);
        assert_eq!(found, [Candidate { offer: vec![0], agreeing: vec![0] }]);
    }

    #[test]
    fn combinations_come_in_order_and_end() {
        let all: Vec<_> = combinations(5, 3).collect();
        assert_eq!((all.len(), &all[0], &all[9]), (10, &vec![0, 1, 2], &vec![2, 3, 4]));
        assert_eq!((combinations(3, 3).count(), combinations(2, 3).count()), (1, 0));
    }

    #[test]
    fn the_field_has_inverses() {
        for one in 1..=255 {
            assert_eq!(divide(one, one), 1);
            assert_eq!(multiply(divide(7, one), one), 7);
        }
    }

    proptest! {
        #[test]
        fn up_to_two_damaged_shares_are_all_found_once_the_server_has_spoken(
            bad in proptest::collection::btree_set(0_usize..5, 0..=2),
        ) {
            let shares: Vec<String> = (0..5)
                .map(|index| if bad.contains(&index) { damaged(SHARES[index]) } else { SHARES[index].to_owned() })
                .collect();
            let shares: Vec<&str> = shares.iter().map(String::as_str).collect();
            let candidates = candidates_of(&shares, 3);
            // Exactly one candidate is all of good shares: the one that the server takes.
            let good: Vec<_> =
                candidates.iter().filter(|one| one.offer.iter().all(|index| !bad.contains(index))).collect();
            prop_assert_eq!(good.len(), 1);
            let found: BTreeSet<usize> = (0..5).filter(|index| !good[0].agreeing.contains(index)).collect();
            prop_assert_eq!(&found, &bad);
            if bad.len() < 2 {
                prop_assert_eq!(good[0], &candidates[0]);
            }
        }
    }
}
