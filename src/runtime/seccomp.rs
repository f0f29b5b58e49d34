//! Seccomp filters: the default profile and custom ones, compiled to BPF here.
//!
//! Not by seccompiler: that has one match action per filter (the default profile wants EPERM for most and ENOSYS for clone3), compares
//! system calls one after the other (some 1,900 instructions to check and translate for each container), and applying sets
//! no_new_privs whether asked or not. This is a binary search over ranges in one program, built once per shim and profile.
//!
//! Other architectures than the native one (i386 and x32 programs) get ENOSYS from every call.
use std::collections::BTreeMap;

use oci_spec::runtime::{Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use super::Error;
use super::seccomp_table::{CAPABLE, DEFAULT, NEWER, OTHER};
use super::sys::Instruction;

/// Marks [`LinuxSeccomp`] as "the runtime's default profile", so that no table travels with every container.
const DEFAULT_MARK: &str = "orch/default";

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;

/// The default profile as a spec carries it; equal in effect to containerd's and Docker's, with what the container's
/// capabilities add. For `RuntimeDefault`; none at all is `Unconfined`.
pub fn default_profile() -> LinuxSeccomp {
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_listener_metadata(Some(DEFAULT_MARK.to_string()));
    profile
}

/// A test of arguments; all conditions must hold.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    conditions: Vec<(usize, LinuxSeccompOperator, u64, u64)>,
    action: u32,
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let errno = errno.unwrap_or(libc::EPERM as u32) & 0xffff;
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | errno,
        LinuxSeccompAction::ScmpActTrace => libc::SECCOMP_RET_TRACE | errno,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        other => return Err(Error::Container(format!("seccomp action {other:?} is not supported"))),
    })
}

/// The filter for a container whose bounding set is `capabilities`.
pub fn compile(profile: &LinuxSeccomp, capabilities: &dyn Fn(Capability) -> bool) -> Result<Vec<Instruction>, Error> {
    if profile.listener_metadata().as_deref() == Some(DEFAULT_MARK) {
        return assemble(&default_rules(capabilities), libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    }
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for call in profile.syscalls().iter().flatten() {
        let action = action(call.action(), call.errno_ret())?;
        // A name unknown here is a call of another architecture or a newer kernel: skipped, as libseccomp's callers do.
        for number in call.names().iter().filter_map(|name| number(name)) {
            let condition = |arg: &LinuxSeccompArg| (arg.index(), arg.op(), arg.value(), arg.value_two().unwrap_or(0));
            let conditions = call.args().iter().flatten().map(condition).collect();
            rules.entry(number).or_default().push(Rule { conditions, action });
        }
    }
    assemble(&rules, action(profile.default_action(), profile.default_errno_ret())?)
}

fn number(name: &str) -> Option<u32> {
    let all = DEFAULT.iter().chain(OTHER).chain(NEWER).copied().chain(CAPABLE.iter().flat_map(|(_, calls)| calls.iter().copied()));
    all.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number as u32)
}

/// After moby's `profiles/seccomp/default_linux.go`.
fn default_rules(capable: &dyn Fn(Capability) -> bool) -> BTreeMap<u32, Vec<Rule>> {
    const NEW_NAMESPACES: u64 = 0x7e02_0000;
    const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
    let allow = |conditions| Rule { conditions, action: libc::SECCOMP_RET_ALLOW };
    let mut rules: BTreeMap<u32, Vec<Rule>> =
        DEFAULT.iter().chain(NEWER).map(|(_, number)| (*number as u32, vec![allow(vec![])])).collect();
    for (_, calls) in CAPABLE.iter().filter(|(capability, _)| capable(*capability)) {
        rules.extend(calls.iter().map(|(_, number)| (*number as u32, vec![allow(vec![])])));
    }
    let personalities = PERSONALITIES.iter().map(|value| allow(vec![(0, LinuxSeccompOperator::ScmpCmpEq, *value, 0)]));
    rules.insert(libc::SYS_personality as u32, personalities.collect());
    let not_vsock = vec![(0, LinuxSeccompOperator::ScmpCmpNe, libc::AF_VSOCK as u64, 0)];
    rules.insert(libc::SYS_socket as u32, vec![allow(not_vsock)]);
    if !capable(Capability::SysAdmin) {
        let no_namespaces = vec![(0, LinuxSeccompOperator::ScmpCmpMaskedEq, NEW_NAMESPACES, 0)];
        rules.insert(libc::SYS_clone as u32, vec![allow(no_namespaces)]);
        // Its flags are in memory, where a filter can't look; ENOSYS makes libc fall back to clone.
        let missing = Rule { conditions: vec![], action: libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32 };
        rules.insert(libc::SYS_clone3 as u32, vec![missing]);
    }
    rules
}

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn test(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn assemble(rules: &BTreeMap<u32, Vec<Rule>>, default: u32) -> Result<Vec<Instruction>, Error> {
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut program = vec![op(LOAD, 4), test(EQUAL, ARCH, 1, 0), op(RETURN, missing), op(LOAD, 0)];
    if cfg!(target_arch = "x86_64") {
        program.extend([test(AT_LEAST, X32_BIT, 0, 1), op(RETURN, missing)]);
    }
    // Neighbours with the same answer become one range.
    let mut ranges: Vec<(u32, Vec<Instruction>)> = vec![(0, vec![op(RETURN, default)])];
    let mut push = |start: u32, code: Vec<Instruction>| match ranges.last_mut() {
        Some((_, last)) if *last == code => {}
        Some((first, last)) if *first == start => *last = code,
        _ => ranges.push((start, code)),
    };
    for (number, list) in rules {
        push(*number, leaf(list, default)?);
        if !rules.contains_key(&(number + 1)) {
            push(number + 1, vec![op(RETURN, default)]);
        }
    }
    // Calls newer than the whole profile do not exist, rather than being forbidden: libc then falls back (as runc's patched filters).
    if let Some((last, _)) = rules.last_key_value()
        && default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO
    {
        push(last + 1, vec![op(RETURN, missing)]);
    }
    program.extend(search(&ranges));
    if program.len() > 4096 {
        return Err(Error::Container(format!("the seccomp profile needs {} instructions; the kernel takes 4096", program.len())));
    }
    Ok(program)
}

/// A binary search for the range that the number (in the accumulator) is in.
fn search(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    if let [(_, code)] = ranges {
        return code.clone();
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (search(low), search(high));
    // A conditional jump reaches 255 instructions, an unconditional one anything.
    let mut code = vec![test(AT_LEAST, high[0].0, 0, 1), op(JUMP, below.len() as u32)];
    code.extend(below);
    code.extend(above);
    code
}

/// Rules in order, the first whose conditions hold decides.
fn leaf(rules: &[Rule], default: u32) -> Result<Vec<Instruction>, Error> {
    let mut code = Vec::new();
    for rule in rules {
        let mut after = vec![op(RETURN, rule.action)];
        for condition in rule.conditions.iter().rev() {
            let mut block = compare(*condition, after.len())?;
            block.extend(after);
            after = block;
        }
        code.extend(after);
        if rule.conditions.is_empty() {
            return Ok(code);
        }
    }
    code.push(op(RETURN, default));
    Ok(code)
}

/// Falls through if the condition holds, else skips `rest` instructions more. Arguments are 64 bits, the accumulator 32.
fn compare(condition: (usize, LinuxSeccompOperator, u64, u64), rest: usize) -> Result<Vec<Instruction>, Error> {
    use LinuxSeccompOperator as Op;
    let (index, operator, value, second) = condition;
    let rest = u8::try_from(rest).ok().filter(|rest| *rest < 240 && index < 6);
    let Some(rest) = rest else { return Err(Error::Container("a seccomp rule has too many or wrong arguments".into())) };
    let (low, high) = (op(LOAD, 16 + 8 * index as u32), op(LOAD, 20 + 8 * index as u32));
    let (value_low, value_high) = (value as u32, (value >> 32) as u32);
    // In `high, test, low, test`: from the first test 2 instructions lie before `rest`, from the second none.
    Ok(match operator {
        Op::ScmpCmpEq => vec![high, test(EQUAL, value_high, 0, rest + 2), low, test(EQUAL, value_low, 0, rest)],
        Op::ScmpCmpNe => vec![high, test(EQUAL, value_high, 0, 2), low, test(EQUAL, value_low, rest, 0)],
        Op::ScmpCmpMaskedEq => vec![
            high,
            op(AND, value_high),
            test(EQUAL, (second >> 32) as u32, 0, rest + 3),
            low,
            op(AND, value_low),
            test(EQUAL, second as u32, 0, rest),
        ],
        Op::ScmpCmpGt | Op::ScmpCmpGe => {
            let code = if operator == Op::ScmpCmpGt { GREATER } else { AT_LEAST };
            vec![high, test(GREATER, value_high, 3, 0), test(EQUAL, value_high, 0, rest + 2), low, test(code, value_low, 0, rest)]
        }
        Op::ScmpCmpLt | Op::ScmpCmpLe => {
            let code = if operator == Op::ScmpCmpLt { AT_LEAST } else { GREATER };
            vec![high, test(GREATER, value_high, rest + 3, 0), test(EQUAL, value_high, 0, 2), low, test(code, value_low, rest, 0)]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[Instruction], number: u32, args: [u64; 6]) -> u32 {
        let mut data = [number, ARCH, 0, 0].map(u32::to_le_bytes).concat();
        data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
        let (mut at, mut acc) = (0, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let mut jump = |yes: bool| at += usize::from(if yes { jt } else { jf });
            match code {
                LOAD => acc = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
                AND => acc &= k,
                RETURN => return k,
                JUMP => at += k as usize,
                EQUAL => jump(acc == k),
                GREATER => jump(acc > k),
                AT_LEAST => jump(acc >= k),
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn errno(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno as u32
    }

    #[test]
    fn the_default_profile_decides_like_its_table() {
        let program = compile(&default_profile(), &|_| false).unwrap();
        let rules = default_rules(&|_| false);
        for number in 0..600 {
            let expect = match rules.get(&number).map(Vec::as_slice) {
                None if number > *rules.last_key_value().unwrap().0 => errno(libc::ENOSYS),
                None => errno(libc::EPERM),
                Some([rule]) if rule.conditions.is_empty() => rule.action,
                Some(_) => continue,
            };
            assert_eq!(run(&program, number, [0; 6]), expect, "system call {number}");
        }
        let allow = libc::SECCOMP_RET_ALLOW;
        let cases: &[(i64, u64, u32)] = &[
            (libc::SYS_clone, libc::CLONE_VM as u64, allow),
            (libc::SYS_clone, libc::CLONE_NEWNS as u64, errno(libc::EPERM)),
            (libc::SYS_clone3, 0, errno(libc::ENOSYS)),
            (libc::SYS_personality, 8, allow),
            (libc::SYS_personality, 9, errno(libc::EPERM)),
            (libc::SYS_socket, libc::AF_INET as u64, allow),
            (libc::SYS_socket, libc::AF_VSOCK as u64, errno(libc::EPERM)),
            (libc::SYS_mount, 0, errno(libc::EPERM)),
            (libc::SYS_keyctl, 0, errno(libc::EPERM)),
        ];
        for (number, arg, expect) in cases {
            assert_eq!(run(&program, *number as u32, [*arg, 0, 0, 0, 0, 0]), *expect, "system call {number} with {arg}");
        }
    }

    #[test]
    fn capabilities_add_calls() {
        let program = compile(&default_profile(), &|capability| capability == Capability::SysAdmin).unwrap();
        assert_eq!(run(&program, libc::SYS_mount as u32, [0; 6]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(&program, libc::SYS_clone3 as u32, [0; 6]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn comparisons_are_of_64_bits() {
        let big = 0x1_0000_0005u64;
        for (operator, holds) in [
            ("SCMP_CMP_EQ", [false, true, false]),
            ("SCMP_CMP_NE", [true, false, true]),
            ("SCMP_CMP_GT", [false, false, true]),
            ("SCMP_CMP_GE", [false, true, true]),
            ("SCMP_CMP_LT", [true, false, false]),
            ("SCMP_CMP_LE", [true, true, false]),
        ] {
            let yaml = format!(
                "{{defaultAction: SCMP_ACT_ALLOW, syscalls: [{{names: [read, nonesuch], action: SCMP_ACT_ERRNO, errnoRet: 7, \
                 args: [{{index: 1, value: {big}, op: {operator}}}]}}]}}"
            );
            let program = compile(&serde_yaml::from_str(&yaml).unwrap(), &|_| false).unwrap();
            for (arg, holds) in [5, big, 0x2_0000_0000].into_iter().zip(holds) {
                let expect = if holds { errno(7) } else { libc::SECCOMP_RET_ALLOW };
                assert_eq!(run(&program, libc::SYS_read as u32, [0, arg, 0, 0, 0, 0]), expect, "{operator} {arg:#x}");
            }
        }
    }
}
