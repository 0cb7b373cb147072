//! Just enough of ELF to tell a static binary.

/// The type of the program header that names a dynamic linker (`PT_INTERP`).
const INTERPRETER: u32 = 3;

/// Whether the file asks for a dynamic linker; none where it is no 64-bit little-endian ELF file.
pub(super) fn has_interpreter(file: &[u8]) -> Option<bool> {
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(file.get(32..40)?.try_into().ok()?)).ok()?;
    let entry = usize::from(u16::from_le_bytes(file.get(54..56)?.try_into().ok()?));
    let entries = usize::from(u16::from_le_bytes(file.get(56..58)?.try_into().ok()?));
    for index in 0..entries {
        let at = table.checked_add(index.checked_mul(entry)?)?;
        let kind = file.get(at..at.checked_add(4)?)?.try_into().ok()?;
        if u32::from_le_bytes(kind) == INTERPRETER {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        file[54] = 56;
        file[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    #[test]
    fn an_interpreter_is_seen() {
        assert_eq!(has_interpreter(&elf(&[1, 3])), Some(true));
        assert_eq!(has_interpreter(&elf(&[1, 2])), Some(false));
    }

    #[test]
    fn what_is_cut_off_or_no_elf_is_not_called_static() {
        let whole = elf(&[1, 2]);
        assert_eq!(has_interpreter(&whole[..whole.len() - 56]), None);
        assert_eq!(has_interpreter(b"#!/bin/sh"), None);
        assert_eq!(has_interpreter(b""), None);
    }
}
