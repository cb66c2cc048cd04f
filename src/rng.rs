//! Named, reproducible random numbers: one generator per (seed, purpose), never a shared one.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// The generator that belongs to `seed` and the words of `purpose`, for example `("init", "encoder.0.conv")`.
/// The mapping is part of the file format: checkpoints and splits depend on it.
pub fn generator(seed: u64, purpose: &[&str]) -> ChaCha8Rng {
    // FNV-1a, twice with different starts, over the seed's bytes and the words with a separator.
    let hash = |start: u64| {
        let mut h = start;
        let mut eat = |byte: u8| h = (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        seed.to_le_bytes().into_iter().for_each(&mut eat);
        for word in purpose {
            word.bytes().for_each(&mut eat);
            eat(0xff);
        }
        h
    };
    let mut key = [0u8; 32];
    for (i, chunk) in key.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(
            &hash(0xcbf2_9ce4_8422_2325 ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes(),
        );
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn purpose_and_seed_both_matter_and_words_do_not_run_together() {
        let first = |seed, purpose: &[&str]| generator(seed, purpose).next_u64();
        assert_eq!(first(1, &["a", "b"]), first(1, &["a", "b"]));
        assert_ne!(first(1, &["a", "b"]), first(2, &["a", "b"]));
        assert_ne!(first(1, &["a", "b"]), first(1, &["ab"]));
        assert_ne!(first(1, &["a", "b"]), first(1, &["b", "a"]));
    }
}
