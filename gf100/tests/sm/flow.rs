//! Control flow: what each lane has counted when all have come together again.

use gf100::sm::WarpError;

use crate::{
    asm::{cond::*, *},
    machine::Machine,
    program, prologue, threaded,
};

/// Runs `body` with the lane in r0 and r8 counting, and returns r8 of each lane.
fn counts(body: &[Line]) -> Vec<u32> {
    let mut lines: Vec<Line> = prologue!().map(Line::from).to_vec();
    lines.push(mov_imm(8, 0).into());
    lines.extend_from_slice(body);
    lines.push(st(8, ty::B32, 4, 0).into());
    lines.push(exit().into());
    let machine = Machine::new(&link(&lines)).threads(32);
    machine.done();
    machine.get(0, 32)
}

fn add(value: i64) -> Line {
    iadd_imm(8, 8, value).into()
}

fn expect(body: &[Line], lane: impl Fn(u32) -> u32) {
    let expected: Vec<u32> = (0..32).map(lane).collect();
    assert_eq!(counts(body), expected);
}

#[test]
fn an_if_with_else_divides_the_lanes_and_joins_them() {
    let body = [
        isetp_imm(0, LT, 0, 10).into(),
        ssy("join"),
        bra_unless(0, "else"),
        add(1),
        nop().join().into(),
        label("else"),
        add(2),
        nop().join().into(),
        label("join"),
        add(100),
    ];
    expect(&body, |lane| if lane < 10 { 101 } else { 102 });
}

#[test]
fn a_join_flag_on_an_ordinary_instruction_joins_after_it() {
    let body = [
        isetp_imm(0, LT, 0, 10).into(),
        ssy("join"),
        bra_unless(0, "else"),
        iadd_imm(8, 8, 1).join().into(),
        label("else"),
        iadd_imm(8, 8, 2).join().into(),
        label("join"),
        add(100),
    ];
    expect(&body, |lane| if lane < 10 { 101 } else { 102 });
}

#[test]
fn a_guarded_join_is_the_else_that_is_not_there() {
    let body = [
        isetp_imm(0, LT, 0, 10).into(),
        ssy("join"),
        nop().unless(0).join().into(),
        add(1),
        nop().join().into(),
        label("join"),
        add(100),
    ];
    expect(&body, |lane| if lane < 10 { 101 } else { 100 });
}

#[test]
fn ifs_nest() {
    let body = [
        isetp_imm(0, LT, 0, 16).into(),
        and_imm(9, 0, 1).into(),
        isetp_imm(1, EQ, 9, 0).into(),
        ssy("outer"),
        bra_unless(0, "else"),
        ssy("inner"),
        bra_on(1, "even"),
        add(1),
        nop().join().into(),
        label("even"),
        add(2),
        nop().join().into(),
        label("inner"),
        add(10),
        nop().join().into(),
        label("else"),
        add(3),
        nop().join().into(),
        label("outer"),
        add(100),
    ];
    expect(&body, |lane| match (lane < 16, lane % 2) {
        (true, 0) => 112,
        (true, _) => 111,
        _ => 103,
    });
}

#[test]
fn a_loop_runs_as_often_as_each_lane_wants() {
    let body = [
        pbk("end"),
        label("loop"),
        isetp(0, GE, 8, 0).into(),
        brk().on(0).into(),
        add(1),
        bra("loop"),
        label("end"),
        add(100),
    ];
    expect(&body, |lane| lane + 100);
}

#[test]
fn break_and_continue_in_nested_ifs_find_their_loop() {
    // for (r9 = 0; r9 < 20; r9++) { if (r9 & 1) { if (lane & 1) continue; r8 += 1; }
    //   if (r9 == lane) break; r8 += 16; }
    let body = [
        mov_imm(9, 0).into(),
        iadd_imm(9, 9, -1).into(),
        and_imm(10, 0, 1).into(),
        isetp_imm(1, NE, 10, 0).into(),
        pbk("end"),
        label("head"),
        pcnt("head"),
        iadd_imm(9, 9, 1).into(),
        isetp_imm(0, GE, 9, 20).into(),
        brk().on(0).into(),
        and_imm(11, 9, 1).into(),
        isetp_imm(2, NE, 11, 0).into(),
        ssy("joined"),
        nop().unless(2).join().into(),
        cont().on(1).into(),
        add(1),
        nop().join().into(),
        label("joined"),
        isetp(3, EQ, 9, 0).into(),
        ssy("joined2"),
        nop().unless(3).join().into(),
        brk().into(),
        label("joined2"),
        add(16),
        cont().into(),
        label("end"),
        add(1000),
    ];
    expect(&body, |lane| {
        let mut n = 0;
        for i in 0..20 {
            if i & 1 != 0 {
                if lane & 1 != 0 {
                    continue;
                }
                n += 1;
            }
            if i == lane {
                break;
            }
            n += 16;
        }
        n + 1000
    });
}

#[test]
fn loops_nest() {
    // for (r9 = 0; r9 < lane % 4; r9++) for (r10 = 0; r10 != r9; r10++) r8++
    let body = [
        and_imm(12, 0, 3).into(),
        mov_imm(9, 0).into(),
        pbk("end"),
        label("outer"),
        isetp(0, GE, 9, 12).into(),
        brk().on(0).into(),
        mov_imm(10, 0).into(),
        pbk("inner_end"),
        label("inner"),
        isetp(1, EQ, 10, 9).into(),
        brk().on(1).into(),
        add(1),
        iadd_imm(10, 10, 1).into(),
        bra("inner"),
        label("inner_end"),
        iadd_imm(9, 9, 1).into(),
        bra("outer"),
        label("end"),
    ];
    expect(&body, |lane| (0..lane % 4).sum());
}

#[test]
fn lanes_that_exit_early_are_not_waited_for() {
    let code = threaded![
        isetp_imm(0, LT, 0, 10),
        ssy("join"),
        bra_unless(0, "else"),
        exit(),
        label("else"),
        mov_imm(8, 7),
        nop().join(),
        label("join"),
        st(8, ty::B32, 4, 0),
        exit(),
    ];
    let machine = Machine::new(&code).threads(32);
    machine.done();
    let expected: Vec<u32> = (0..32).map(|lane| if lane < 10 { 0 } else { 7 }).collect();
    assert_eq!(machine.get(0, 32), expected);
}

#[test]
fn functions_return_when_all_lanes_have() {
    let body = [
        isetp_imm(0, LT, 0, 10).into(),
        call("f"),
        add(100),
        bra("over"),
        label("f"),
        add(1),
        ret().on(0).into(),
        add(2),
        call("g"),
        ret().into(),
        label("g"),
        add(10),
        ret().into(),
        label("over"),
    ];
    expect(&body, |lane| if lane < 10 { 101 } else { 113 });
}

#[test]
fn a_return_leaves_regions_behind() {
    let body = [
        isetp_imm(0, LT, 0, 10).into(),
        call("f"),
        add(100),
        bra("over"),
        label("f"),
        pbk("end"),
        label("loop"),
        ssy("join"),
        bra_unless(0, "else"),
        add(1),
        ret().into(),
        label("else"),
        nop().join().into(),
        label("join"),
        add(2),
        brk().into(),
        label("end"),
        ret().into(),
        label("over"),
    ];
    expect(&body, |lane| if lane < 10 { 101 } else { 102 });
}

#[test]
fn a_stack_without_an_entry_traps() {
    let trap = |i: I| Machine::new(&program![i, exit()]).error();
    assert_eq!(trap(brk()), WarpError::StackError);
    assert_eq!(trap(cont()), WarpError::StackError);
    assert_eq!(trap(nop().join()), WarpError::StackError);
    assert_eq!(trap(ret()), WarpError::RetEmptyStack);
}

#[test]
fn a_stack_that_grows_for_ever_traps() {
    let code = program![label("f"), call("f")];
    assert_eq!(Machine::new(&code).error(), WarpError::StackError);
    let code = program![label("f"), ssy("f"), bra("f")];
    let mut machine = Machine::new(&code);
    machine.launch.warp_cstack_size = 0x800;
    assert_eq!(machine.error(), WarpError::StackError);
}

#[test]
fn an_indirect_branch_goes_where_a_constant_says() {
    let bx = I::new(7, 0x00)
        .field(5, 4, 0xf)
        .bit(14)
        .constant(0, 8)
        .field(46, 2, 0);
    let code = threaded![
        mov_imm(8, 1),
        bx,
        exit(),
        mov_imm(8, 2),
        st(8, ty::B32, 4, 0),
        exit(),
    ];
    let mut machine = Machine::new(&code);
    machine.bind(0, &[0, 0, 9 * 8]);
    machine.done();
    assert_eq!(machine.get(0, 1), [2]);
}

#[test]
fn an_unknown_word_traps_with_its_address_and_bytes() {
    let code = [nop().0, 0xffff_ffff_ffff_fff4];
    let trap = Machine::new(&code).trap();
    assert_eq!(trap.error, WarpError::IllegalInstrEncoding);
    assert_eq!((trap.pc, trap.code, trap.lanes), (8, code[1], 1));
}
