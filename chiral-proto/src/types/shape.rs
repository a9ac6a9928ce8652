use std::fmt;
use std::ops::Deref;

/// The dimensions of an [`Array`](crate::Array), outermost first: `[H, W, C]` of an image.
///
/// Dereferences to `[usize]`. Up to four dimensions are stored without an allocation. An empty
/// shape is a scalar: one element.
#[derive(Clone)]
pub struct Shape(Dims);

#[derive(Clone)]
enum Dims {
    Inline { rank: u8, dims: [usize; Shape::INLINE] },
    Heap(Box<[usize]>),
}

impl Shape {
    const INLINE: usize = 4;

    /// A shape of the given dimensions.
    pub fn new(dims: &[usize]) -> Self {
        if dims.len() <= Self::INLINE {
            let mut inline = [0; Self::INLINE];
            inline[..dims.len()].copy_from_slice(dims);
            Self(Dims::Inline { rank: dims.len() as u8, dims: inline })
        } else {
            Self(Dims::Heap(dims.into()))
        }
    }

    /// How many elements an array of this shape has, or `None` when that overflows `usize`.
    pub fn element_count(&self) -> Option<usize> {
        // A zero anywhere makes the array empty, however large the other dimensions are.
        if self.contains(&0) {
            return Some(0);
        }
        self.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim))
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        match &self.0 {
            Dims::Inline { rank, dims } => &dims[..usize::from(*rank)],
            Dims::Heap(dims) => dims,
        }
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self::new(dims)
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Self::new(&dims)
    }
}

impl<const RANK: usize> From<[usize; RANK]> for Shape {
    fn from(dims: [usize; RANK]) -> Self {
        Self::new(&dims)
    }
}

/// A vector of the given length.
impl From<usize> for Shape {
    fn from(len: usize) -> Self {
        Self::new(&[len])
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Self {
        let mut dims = dims.into_iter();
        let mut inline = [0; Self::INLINE];
        for rank in 0..=Self::INLINE {
            match (dims.next(), inline.get_mut(rank)) {
                (None, _) => return Self(Dims::Inline { rank: rank as u8, dims: inline }),
                (Some(dim), Some(slot)) => *slot = dim,
                (Some(dim), None) => {
                    return Self(Dims::Heap(inline.into_iter().chain([dim]).chain(dims).collect()));
                }
            }
        }
        unreachable!("the loop ends at the first missing or the fifth dimension")
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Shape {}

impl PartialEq<[usize]> for Shape {
    fn eq(&self, other: &[usize]) -> bool {
        **self == *other
    }
}

impl<const RANK: usize> PartialEq<[usize; RANK]> for Shape {
    fn eq(&self, other: &[usize; RANK]) -> bool {
        **self == *other
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_any_rank_are_kept() {
        for rank in 0..8 {
            let dims: Vec<usize> = (1..=rank).collect();
            assert_eq!(*Shape::new(&dims), dims[..]);
            assert_eq!(*dims.iter().copied().collect::<Shape>(), dims[..]);
        }
    }

    #[test]
    fn element_count_is_checked_for_overflow() {
        assert_eq!(Shape::new(&[]).element_count(), Some(1));
        assert_eq!(Shape::new(&[480, 640, 3]).element_count(), Some(921_600));
        assert_eq!(Shape::new(&[usize::MAX, 2]).element_count(), None);
        assert_eq!(Shape::new(&[usize::MAX, 2, 0]).element_count(), Some(0));
    }
}
