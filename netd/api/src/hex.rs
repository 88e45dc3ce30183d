//! Bytes of frames as hexadecimal digits.

/// Bytes as lower-case digits, two of each, without anything between.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Bytes from such digits, upper case or lower; none: it is not an even number of them.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |d: u8| u8::try_from(char::from(d).to_digit(16)?).ok();
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_digits_and_digits_bytes() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!(hex(&[0, 255, 0x7a]), "00ff7a");
        assert_eq!(unhex("00FF7a"), Some(vec![0, 255, 0x7a]));
        assert_eq!(unhex(""), Some(vec![]));
        for wrong in ["0", "0g", "+1", "0 1", "\u{e9}"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
