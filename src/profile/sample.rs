//! One sample: the registers and the top of the stack of a thread that was interrupted.

use framehop::UnwindRegsNative;

/// The registers that unwinding starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) pc: u64,
    pub(super) sp: u64,
    pub(super) fp: u64,
    /// The link register of aarch64; x86-64 has none.
    pub(super) lr: u64,
}

/// A sample of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// The functions of the kernel, innermost first; empty where it was not sampled in the kernel.
    pub(super) kernel: &'a [u64],
    /// The registers in user mode; at the entry of the system call where the thread was in one.
    pub(super) registers: Option<Registers>,
    /// The stack from `sp` up, possibly cut off.
    pub(super) stack: &'a [u8],
}

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// Mask of perf_event_open(2): `PERF_REG_X86_BP`, `PERF_REG_X86_SP`, `PERF_REG_X86_IP`.
    pub(super) const MASK: u64 = 1 << 6 | 1 << 7 | 1 << 8;

    /// From the values of the registers in [`Self::MASK`], lowest bit first.
    pub(super) fn from_perf(values: &[u64]) -> Option<Self> {
        let &[fp, sp, pc] = values else { return None };
        Some(Self { pc, sp, fp, lr: 0 })
    }

    pub(super) fn for_unwinding(self, _code_max: u64) -> UnwindRegsNative {
        UnwindRegsNative::new(self.pc, self.sp, self.fp)
    }
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    /// Mask of perf_event_open(2): `PERF_REG_ARM64_X29`, `PERF_REG_ARM64_LR`, `PERF_REG_ARM64_SP`, `PERF_REG_ARM64_PC`.
    pub(super) const MASK: u64 = 1 << 29 | 1 << 30 | 1 << 31 | 1 << 32;

    /// From the values of the registers in [`Self::MASK`], lowest bit first.
    pub(super) fn from_perf(values: &[u64]) -> Option<Self> {
        let &[fp, lr, sp, pc] = values else { return None };
        Some(Self { pc, sp, fp, lr })
    }

    /// `code_max`: the highest address of code; higher bits of a return address are its authentication code.
    pub(super) fn for_unwinding(self, code_max: u64) -> UnwindRegsNative {
        let mask = framehop::aarch64::PtrAuthMask::from_max_known_address(code_max);
        UnwindRegsNative::new_with_ptr_auth_mask(mask, self.lr, self.sp, self.fp)
    }
}
