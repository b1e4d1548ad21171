//! Pointers of C → references and slices for the length of a call, and results → where C wants them.
//!
//! What can be seen of a pointer is checked: null, alignment, a length that no object has, a struct's own
//! size. The rest is the caller's promise: that it points to so much, and that nobody changes it meanwhile.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::slice;

use super::invalid;
use crate::error::Result;

/// `len` bytes. Null is fine for none.
///
/// # Safety
/// A pointer that is not null has `len` bytes that do not change while `'a` lasts.
#[inline]
pub unsafe fn bytes<'a>(
    pointer: *const c_void,
    len: usize,
    what: &'static str,
) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || len > isize::MAX.cast_unsigned() {
        return invalid(what);
    }
    // SAFETY: not null, no longer than an object can be; the rest is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(pointer.cast(), len) })
}

/// `len` items one behind the other. Null is fine for none.
///
/// # Safety
/// As with [`bytes`], for items of any type that takes any bits.
pub unsafe fn items<'a, T>(pointer: *const T, len: usize, what: &'static str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    let size = len.checked_mul(size_of::<T>());
    let fits = size.is_some_and(|size| isize::try_from(size).is_ok());
    if pointer.is_null() || !pointer.is_aligned() || !fits {
        return invalid(what);
    }
    // SAFETY: neither null nor unaligned nor too long; the rest is the caller's promise.
    Ok(unsafe { slice::from_raw_parts(pointer, len) })
}

/// UTF-8 of a known length.
///
/// # Safety
/// As with [`bytes`].
pub unsafe fn str<'a>(pointer: *const c_char, len: usize, what: &'static str) -> Result<&'a str> {
    // SAFETY: the caller's promise is passed on.
    let bytes = unsafe { bytes(pointer.cast(), len, what) }?;
    std::str::from_utf8(bytes).or_else(|_| invalid(what))
}

/// UTF-8 up to a NUL.
///
/// # Safety
/// A pointer that is not null has bytes up to a NUL that do not change while `'a` lasts.
pub unsafe fn text<'a>(pointer: *const c_char, what: &'static str) -> Result<&'a str> {
    if pointer.is_null() {
        return invalid(what);
    }
    // SAFETY: not null; the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().or_else(|_| invalid(what))
}

/// Like [`text`], where null is the same as nothing.
///
/// # Safety
/// As with [`text`].
pub unsafe fn text_or_empty<'a>(pointer: *const c_char, what: &'static str) -> Result<&'a str> {
    if pointer.is_null() {
        return Ok("");
    }
    // SAFETY: the caller's promise is passed on.
    unsafe { text(pointer, what) }
}

/// Whether an output can be written, as far as it can be seen.
pub fn check_output<T>(output: *mut T, what: &'static str) -> Result<()> {
    if output.is_null() || !output.is_aligned() {
        return invalid(what);
    }
    Ok(())
}

/// Like [`check_output`], where null says that it is not wanted.
#[inline]
pub fn check_wanted<T>(output: *mut T, what: &'static str) -> Result<()> {
    match output.is_aligned() {
        true => Ok(()),
        false => invalid(what),
    }
}

/// Writes an output, unless it is not wanted.
///
/// # Safety
/// A pointer that is not null is aligned and has room for a `T`.
#[inline]
pub unsafe fn put<T>(output: *mut T, value: T) {
    if !output.is_null() {
        // SAFETY: the caller's promise. What was there is plain bytes: nothing is dropped.
        unsafe { output.write(value) };
    }
}

/// Writes a text with a NUL, cut between characters to `capacity`, and its whole length without the NUL.
///
/// # Safety
/// `buffer` has room for `capacity` bytes, `len` for a length, where they are not null.
pub unsafe fn put_text(
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> Result<()> {
    check_wanted(len, "len is not aligned")?;
    if buffer.is_null() && capacity > 0 {
        return invalid("buffer is null and its capacity is not 0");
    }
    if capacity > 0 {
        let cut = crate::counters::cut(text, capacity - 1);
        // SAFETY: `cut` is shorter than `capacity`, and not in a buffer of C's.
        unsafe { ptr::copy_nonoverlapping(cut.as_ptr().cast(), buffer, cut.len()) };
        // SAFETY: see above: there is one more byte.
        let end = unsafe { buffer.add(cut.len()) };
        // SAFETY: as above.
        unsafe { end.write(0) };
    }
    // SAFETY: the caller's promise; alignment was checked.
    unsafe { put(len, text.len()) };
    Ok(())
}

/// A struct whose first field is its size, in bytes, as its owner was compiled.
pub trait Sized32 {
    /// What is said of one that has another size.
    const WRONG_SIZE: &'static str;
}

/// Checks the size that stands at the head of a struct: this version has one layout of each.
///
/// # Safety
/// A pointer that is not null points to a `T` whose `size` is written.
pub unsafe fn check_size<T: Sized32>(pointer: *const T) -> Result<()> {
    if pointer.is_null() || !pointer.is_aligned() {
        return invalid(T::WRONG_SIZE);
    }
    // SAFETY: a `repr(C)` struct of `Sized32` begins with its size, a `u32`, which the caller has written.
    let size = unsafe { pointer.cast::<u32>().read() };
    match usize::try_from(size) == Ok(size_of::<T>()) {
        true => Ok(()),
        false => invalid(T::WRONG_SIZE),
    }
}

/// A struct that C hands in.
///
/// # Safety
/// As with [`check_size`], all of it is written, and it does not change while `'a` lasts.
pub unsafe fn structure<'a, T: Sized32>(pointer: *const T) -> Result<&'a T> {
    // SAFETY: the caller's promise is passed on.
    unsafe { check_size(pointer) }?;
    // SAFETY: neither null nor unaligned; the rest is the caller's promise.
    Ok(unsafe { &*pointer })
}
