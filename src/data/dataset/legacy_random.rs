//! NumPy's legacy generator, as far as cross-validation splits need it: MT19937 seeded with one integer, and
//! `RandomState.shuffle`. The folds of nnU-Net and scikit-learn follow from these two.
//!
//! Matsumoto and Nishimura, *Mersenne Twister*, ACM TOMACS 8(1), 1998.

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// `numpy.random.RandomState(seed)`.
pub(super) struct LegacyRandom {
    state: [u32; WORDS],
    next: usize,
}

impl LegacyRandom {
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; WORDS];
        for index in 1..WORDS {
            let previous = state[index - 1];
            state[index] =
                1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(index as u32);
        }
        Self { state, next: WORDS }
    }

    /// The next 32 random bits.
    fn draw(&mut self) -> u32 {
        if self.next == WORDS {
            self.renew();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn renew(&mut self) {
        for index in 0..WORDS {
            let joined = (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % WORDS] & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + MIDDLE) % WORDS] ^ (joined >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// Uniform in 0..=`most`: bits are masked and drawn again until they fit, as NumPy's `random_interval` does.
    fn up_to(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.draw() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// 0, 1, ..., `count` - 1 in random order: `RandomState.permutation(count)`, and what `KFold` shuffles.
    pub(super) fn permutation(&mut self, count: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count as usize).collect();
        for last in (1..count).rev() {
            order.swap(last as usize, self.up_to(last) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_those_of_the_reference_implementation() {
        // mt19937ar.c with init_genrand(5489): the 10,000th word is the one that the C++ standard requires of
        // `std::mt19937`.
        let mut random = LegacyRandom::new(5489);
        assert_eq!(random.draw(), 3_499_211_612);
        let last = (1..10_000).map(|_| random.draw()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn intervals_are_closed() {
        let mut random = LegacyRandom::new(1);
        let mut seen = [0; 3];
        for _ in 0..300 {
            seen[random.up_to(2) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
        assert_eq!(random.up_to(0), 0);
    }
}
