//! Instances in random order, as many as are wanted and no more.

/// A small generator (xorshift64*): spreads load, keeps no secret.
#[derive(Debug, Clone)]
pub(crate) struct Xorshift(u64);

impl Xorshift {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// A number below `bound`, which is not 0; the bias is below bound / 2^32.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(bound)) >> 32) as u32
    }
}

/// Draws numbers below n without putting them back, each order as likely as any other: the work is the numbers drawn, not n.
/// Between draws `order` holds 0, 1, 2, …: a draw swaps, and what it swapped is undone afterwards.
#[derive(Debug)]
pub(crate) struct Draw {
    random: Xorshift,
    /// Grows to the largest n seen: 4 bytes for each instance of the largest service.
    order: Vec<u32>,
    swapped: Vec<u32>,
    bound: usize,
}

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Xorshift::new(seed), order: Vec::new(), swapped: Vec::new(), bound: 0 }
    }

    /// Starts a draw of the numbers below `bound`.
    pub(crate) fn start(&mut self, bound: usize) {
        while let Some(other) = self.swapped.pop() {
            self.order.swap(self.swapped.len(), other as usize);
        }
        self.order.extend(self.order.len() as u32..bound as u32);
        self.bound = bound;
    }

    /// The next number; `None` when all are drawn.
    pub(crate) fn next(&mut self) -> Option<usize> {
        let at = self.swapped.len();
        let left = self.bound.checked_sub(at).filter(|left| *left > 0)?;
        let other = at as u32 + self.random.below(left as u32);
        self.order.swap(at, other as usize);
        self.swapped.push(other);
        Some(self.order[at] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once() {
        let mut draw = Draw::new(7);
        for bound in [0, 1, 5, 300, 2, 40] {
            draw.start(bound);
            let mut seen: Vec<usize> = std::iter::from_fn(|| draw.next()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..bound).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut draw = Draw::new(1);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            draw.start(4);
            let order: Vec<usize> = std::iter::from_fn(|| draw.next()).collect();
            *counts.entry(order).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_first_of_many_are_any_of_them() {
        let mut draw = Draw::new(3);
        let mut counts = vec![0; 100];
        for _ in 0..20_000 {
            draw.start(100);
            for _ in 0..3 {
                counts[draw.next().expect("there are 100")] += 1;
            }
        }
        assert!(counts.iter().all(|count| (480..720).contains(count)), "{counts:?}");
    }
}
