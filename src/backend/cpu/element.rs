//! The numbers that tensors are made of. Arithmetic is in f32: other numbers are widened in registers, on
//! their way from memory.
//!
//! `vdpbf16ps` and AMX, which multiply bf16 by bf16, are not used: they would round the activations as well.

use half::{bf16, f16};
use ndarray::ArrayView2;
use pulp::Simd;

use crate::dtype::Dtype;

/// The widest vector, in f32.
const WIDEST: usize = 16;

/// A number in memory: [`f32`], [`bf16`], [`f16`]; [`i8`], a number apart from its scale.
///
/// # Safety
/// Every pattern of its bits is a number.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// Its name.
    const DTYPE: Dtype;
    /// Whether it is to be multiplied by a scale.
    const SCALED: bool = matches!(Self::DTYPE, Dtype::Int8);

    /// The same number: f32 has all those of the others.
    fn widen(self) -> f32;

    /// The nearest number; of two, the one whose last bit is zero. Infinity for what is too large.
    fn nearest(x: f32) -> Self;

    /// As many numbers as a vector has.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::f32s {
        // SAFETY: the caller's.
        unsafe { one_by_one(simd, from) }
    }

    /// Rows of numbers that are f32 already.
    fn as_f32(_: ArrayView2<'_, Self>) -> Option<ArrayView2<'_, f32>> {
        None
    }

    /// The numbers of a slice shorter than a vector, and zeros behind them.
    #[inline(always)]
    fn load_rest<S: Simd>(simd: S, from: &[Self]) -> S::f32s {
        let mut wide = [0.0; WIDEST];
        for (wide, from) in wide.iter_mut().zip(from) {
            *wide = from.widen();
        }
        simd.partial_load_f32s(&wide[..from.len()])
    }
}

// SAFETY: every pattern of bits is an f32.
unsafe impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    fn nearest(x: f32) -> f32 {
        x
    }

    fn as_f32(numbers: ArrayView2<'_, f32>) -> Option<ArrayView2<'_, f32>> {
        Some(numbers)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(_: S, from: *const f32) -> S::f32s {
        // SAFETY: the caller's; a vector is so many f32.
        unsafe { from.cast::<S::f32s>().read_unaligned() }
    }

    #[inline(always)]
    fn load_rest<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
        simd.partial_load_f32s(from)
    }
}

// SAFETY: every pattern of bits is a bf16.
unsafe impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    fn nearest(x: f32) -> bf16 {
        bf16::from_f32(x)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const bf16) -> S::f32s {
        use std::arch::x86_64::*;
        // SAFETY: the caller's; a vector type of pulp's is there only where its instructions are.
        unsafe {
            if is::<S, pulp::x86::V4>() {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                return std::mem::transmute_copy(&_mm512_slli_epi32::<16>(wide));
            }
            if is::<S, pulp::x86::V3>() {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                return std::mem::transmute_copy(&_mm256_slli_epi32::<16>(wide));
            }
            one_by_one(simd, from)
        }
    }
}

// SAFETY: every pattern of bits is an f16.
unsafe impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;

    /// Without a branch, and without arithmetic on subnormal f32, which takes a hundred times as long.
    #[inline(always)]
    fn widen(self) -> f32 {
        const BIAS: u32 = 112 << 23; // of the exponents
        let bits = u32::from(self.to_bits());
        let (sign, magnitude) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        let normal = magnitude + BIAS + if bits & 0x7c00 == 0x7c00 { BIAS } else { 0 };
        let smallest = BIAS + (1 << 23);
        let subnormal = f32::from_bits(magnitude + smallest) - f32::from_bits(smallest);
        let magnitude = if magnitude < 1 << 23 { subnormal.to_bits() } else { normal };
        f32::from_bits(sign | magnitude)
    }

    fn nearest(x: f32) -> f16 {
        f16::from_f32(x)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const f16) -> S::f32s {
        use std::arch::x86_64::*;
        // SAFETY: as for bf16; V3 has F16C.
        unsafe {
            if is::<S, pulp::x86::V4>() {
                return std::mem::transmute_copy(&_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())));
            }
            if is::<S, pulp::x86::V3>() {
                return std::mem::transmute_copy(&_mm256_cvtph_ps(_mm_loadu_si128(from.cast())));
            }
            one_by_one(simd, from)
        }
    }
}

// SAFETY: every pattern of bits is an i8.
unsafe impl Element for i8 {
    const DTYPE: Dtype = Dtype::Int8;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }

    fn nearest(x: f32) -> i8 {
        x.round_ties_even() as i8
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const i8) -> S::f32s {
        use std::arch::x86_64::*;
        // SAFETY: as for bf16.
        unsafe {
            if is::<S, pulp::x86::V4>() {
                let wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()));
                return std::mem::transmute_copy(&_mm512_cvtepi32_ps(wide));
            }
            if is::<S, pulp::x86::V3>() {
                let wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
                return std::mem::transmute_copy(&_mm256_cvtepi32_ps(wide));
            }
            one_by_one(simd, from)
        }
    }
}

/// As many numbers as a vector has, of any element, on any machine.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn one_by_one<S: Simd, E: Element>(_: S, from: *const E) -> S::f32s {
    let mut wide = [0.0; WIDEST];
    for (i, wide) in wide[..S::F32_LANES].iter_mut().enumerate() {
        // SAFETY: the caller's.
        *wide = unsafe { *from.add(i) }.widen();
    }
    // SAFETY: a vector is so many f32, at most as many as the array has.
    unsafe { std::mem::transmute_copy(&wide) }
}

/// Whether two types are one: known when compiled, so that no branch is left.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn is<S: 'static, T: 'static>() -> bool {
    std::any::TypeId::of::<S>() == std::any::TypeId::of::<T>()
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::backend::cpu::kernels::arch;
    use crate::backend::cpu::kernels::tests::on_every_arch;

    /// Widened whole vector by vector, and the rest of them by itself.
    struct Widened<'a, E>(&'a [E]);

    impl<E: Element> WithSimd for Widened<'_, E> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let vector = |from: &[E]| match from.len() == S::F32_LANES {
                // SAFETY: as many as a vector has.
                true => unsafe { E::load(simd, from.as_ptr()) },
                false => E::load_rest(simd, from),
            };
            let wide = |from: &[E]| {
                let mut wide = [0.0f32; WIDEST];
                // SAFETY: a vector is so many f32, at most as many as the array has.
                unsafe { wide.as_mut_ptr().cast::<S::f32s>().write_unaligned(vector(from)) };
                wide.into_iter().take(from.len())
            };
            self.0.chunks(S::F32_LANES).flat_map(wide).collect()
        }
    }

    fn check<E: Element>(number: impl Fn(u16) -> E, known: impl Fn(u16) -> f32) {
        let numbers: Vec<E> = (0..=u16::MAX).map(&number).collect();
        let rest = numbers.len() - 7; // the last vector is not whole
        for (bits, wide) in (0..=u16::MAX).zip(arch().dispatch(Widened(&numbers[..rest]))) {
            let (one, known) = (number(bits).widen(), known(bits));
            let same = |x: f32| x.to_bits() == known.to_bits() || x.is_nan() && known.is_nan();
            assert!(same(one) && same(wide), "{bits:#x}: {one} and {wide}, should be {known}");
        }
    }

    /// All 65 536 of each, as the crate that the types come from reads them.
    #[test]
    fn every_number_is_widened_to_itself() {
        on_every_arch(|| {
            check(f16::from_bits, |bits| f16::from_bits(bits).to_f32());
            check(bf16::from_bits, |bits| bf16::from_bits(bits).to_f32());
            check(|bits| bits as i8, |bits| f32::from(bits as i8));
        });
    }
}
