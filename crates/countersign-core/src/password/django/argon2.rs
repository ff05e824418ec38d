//! `argon2`: Argon2id, what new hashes are, and Argon2i (RFC 9106).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::{HASH_BYTES, plain_number, same};

/// What Argon2id is asked to spend on one password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes; computed one after the other here.
    pub lanes: u32,
}

impl Argon2Cost {
    /// The least that OWASP's password storage cheat sheet accepts for new hashes: 7 MiB in five
    /// passes, or any of its other rows, all of which spend at least this product.
    pub const FLOOR_KIB_PASSES: u64 = 7 * 1024 * 5;

    /// The most that a stored hash may ask for: 256 MiB at once (Django's own default is 100 MiB),
    /// 1 GiB over all passes, about a second of one core.
    pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
    /// See [`Self::MAX_MEMORY_KIB`].
    pub const MAX_KIB_PASSES: u64 = 1024 * 1024;
    /// The most lanes that a stored hash may ask for.
    pub const MAX_LANES: u32 = 16;

    /// Memory times passes: what one hash costs.
    pub fn kib_passes(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Whether a stored hash may ask for this much.
    pub fn is_bounded(self) -> bool {
        (1..=Self::MAX_LANES).contains(&self.lanes)
            && (8 * self.lanes..=Self::MAX_MEMORY_KIB).contains(&self.memory_kib)
            && self.passes >= 1
            && self.kib_passes() <= Self::MAX_KIB_PASSES
    }

    pub(super) fn params(self, output_bytes: usize) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(output_bytes)).ok()
    }
}

impl Default for Argon2Cost {
    /// The first row of OWASP's password storage cheat sheet: 19 MiB, two passes, one lane.
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
        }
    }
}

/// A stored Argon2 hash, read and found within bounds.
#[derive(Clone)]
pub(in crate::password) struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    pub(super) cost: Argon2Cost,
    salt: Vec<u8>,
    hash: Zeroizing<Vec<u8>>,
}

impl Argon2Hash {
    /// Reads what follows `argon2$`: a PHC string without its first `$`, like
    /// `argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`. `None` if it is malformed or asks for more than
    /// [`Argon2Cost::is_bounded`] allows.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$').peekable();
        let algorithm = match parts.next()? {
            "argon2id" => Algorithm::Argon2id,
            "argon2i" => Algorithm::Argon2i,
            _ => return None,
        };
        // Hashes made before there was a second version do not name theirs.
        let version = match parts.next_if(|part| part.starts_with("v=")) {
            Some("v=19") => Version::V0x13,
            Some("v=16") | None => Version::V0x10,
            Some(_) => return None,
        };
        let cost = parse_cost(parts.next()?)?;
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let hash = Zeroizing::new(STANDARD_NO_PAD.decode(parts.next()?).ok()?);
        let sizes_fit = (8..=64).contains(&salt.len()) && (16..=64).contains(&hash.len());
        (parts.next().is_none() && sizes_fit && cost.is_bounded()).then_some(Self {
            algorithm,
            version,
            cost,
            salt,
            hash,
        })
    }

    /// A hash with the bytes still to be computed.
    pub(super) fn blank(cost: Argon2Cost, salt: Vec<u8>) -> Self {
        Self {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            cost,
            salt,
            hash: Zeroizing::new(vec![0; HASH_BYTES]),
        }
    }

    /// Whether a new hash of this cost would be of the same kind.
    pub(super) fn is_todays(&self, cost: Argon2Cost) -> bool {
        let Self {
            algorithm, version, ..
        } = self;
        (*algorithm, *version, self.cost) == (Algorithm::Argon2id, Version::V0x13, cost)
    }

    pub(super) fn matches(&self, password: &[u8], memory: &mut Argon2Memory) -> bool {
        same(&self.compute(password, memory), &self.hash)
    }

    pub(super) fn fill(&mut self, password: &[u8], memory: &mut Argon2Memory) {
        self.hash = self.compute(password, memory);
    }

    fn compute(&self, password: &[u8], memory: &mut Argon2Memory) -> Zeroizing<Vec<u8>> {
        let mut output = Zeroizing::new(vec![0; self.hash.len()]);
        let params = self
            .cost
            .params(output.len())
            .expect("the cost was bounded when the hash was read");
        let blocks = memory.blocks(params.block_count());
        Argon2::new(self.algorithm, self.version, params)
            .hash_password_into_with_memory(password, &self.salt, &mut output, blocks)
            .expect("password, salt and output were bounded when they were read");
        memory.give_back();
        output
    }

    pub(super) fn with_bytes(mut self, bytes: [u8; HASH_BYTES]) -> Self {
        self.hash = Zeroizing::new(bytes.to_vec());
        self
    }

    pub(super) fn encode(&self) -> String {
        let Argon2Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost;
        let algorithm = self.algorithm.as_str();
        let version = u32::from(self.version);
        let salt = STANDARD_NO_PAD.encode(&self.salt);
        let hash = STANDARD_NO_PAD.encode(&*self.hash);
        format!("argon2${algorithm}$v={version}$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

/// `m=19456,t=2,p=1`, in this order, each number plain decimal.
fn parse_cost(text: &str) -> Option<Argon2Cost> {
    let mut parts = text.split(',');
    let mut number =
        |prefix: &str| -> Option<u32> { plain_number(parts.next()?.strip_prefix(prefix)?) };
    let cost = Argon2Cost {
        memory_kib: number("m=")?,
        passes: number("t=")?,
        lanes: number("p=")?,
    };
    parts.next().is_none().then_some(cost)
}

/// The memory of a hashing thread: what today's hashes take is kept from one to the next.
pub(in crate::password) struct Argon2Memory {
    blocks: Vec<Block>,
    /// How many blocks are kept. A stored hash that takes more has borrowed them.
    kept: usize,
}

impl Argon2Memory {
    /// Memory of which as much is kept as hashes of this cost take.
    pub(in crate::password) fn keeping(cost: Argon2Cost) -> Self {
        let kept = cost
            .params(HASH_BYTES)
            .map_or(0, |params| params.block_count());
        Self {
            blocks: Vec::new(),
            kept,
        }
    }

    /// The same for another thread, with nothing taken yet.
    pub(in crate::password) fn empty(&self) -> Self {
        Self {
            blocks: Vec::new(),
            kept: self.kept,
        }
    }

    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.blocks.len() < count {
            self.blocks.resize(count, Block::default());
        }
        &mut self.blocks[..count]
    }

    fn give_back(&mut self) {
        if self.blocks.len() > self.kept {
            self.blocks.truncate(self.kept);
            self.blocks.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "argon2id$v=19$m=102400,t=2,p=8$\
                        c2FsdHNhbHRzYWx0c2FsdA$BG5n1MOckbYY5XZT5rmHyg";

    #[test]
    fn a_hash_in_djangos_encoding_is_read_and_written_the_same() {
        let hash = Argon2Hash::parse(GOOD).unwrap();
        let djangos = Argon2Cost {
            memory_kib: 102_400,
            passes: 2,
            lanes: 8,
        };
        assert_eq!(hash.cost, djangos);
        assert_eq!(hash.encode(), format!("argon2${GOOD}"));
        assert!(hash.is_todays(djangos));
        assert!(!hash.is_todays(Argon2Cost::default()));
    }

    #[test]
    fn hashes_that_ask_for_too_much_are_not_read() {
        for (good, hostile) in [
            ("m=102400", "m=4294967295"),
            ("m=102400", "m=262145"),
            ("m=102400", "m=63"),
            ("m=102400", "m=+102400"),
            ("t=2", "t=4294967295"),
            ("t=2", "t=0"),
            ("t=2", "t=11"),
            ("p=8", "p=0"),
            ("p=8", "p=17"),
            ("v=19", "v=18"),
            ("v=19$", "v=19$v=19$"),
            ("argon2id", "argon2x"),
            ("argon2id", "argon2d"),
            ("t=2,p=8", "t=2,p=8,data=AAAA"),
            ("$BG5n1MOckbYY5XZT5rmHyg", "$"),
            ("$BG5n1MOckbYY5XZT5rmHyg", ""),
        ] {
            let text = GOOD.replacen(good, hostile, 1);
            assert_ne!(text, GOOD);
            assert!(Argon2Hash::parse(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn borrowed_memory_is_given_back() {
        let mut memory = Argon2Memory::keeping(Argon2Cost {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        });
        let mut compute = |memory_kib| {
            let cost = Argon2Cost {
                memory_kib,
                passes: 1,
                lanes: 1,
            };
            Argon2Hash::blank(cost, vec![7; 16]).fill(b"correct horse", &mut memory);
            memory.blocks.capacity()
        };
        assert_eq!(compute(8), 8);
        assert_eq!(compute(1_024), 8);
    }
}
