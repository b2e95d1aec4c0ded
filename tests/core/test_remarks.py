"""Remarks are counted by kind, name a few examples, and cannot harm a terminal."""

from abs_core.remarks import MAX_EXAMPLES, Remark, RemarkCounter


def test_remarks_are_counted_by_kind_in_the_order_of_their_first_example():
    counter = RemarkCounter()
    for name in ("a.txt", "b.txt"):
        counter.add("left out: not an image", name)
    counter.add("left out: not a regular file", "pipe")
    assert counter.remarks == (
        Remark("left out: not an image", 2, ("a.txt", "b.txt")),
        Remark("left out: not a regular file", 1, ("pipe",)),
    )
    assert counter.counts == {"left out: not an image": 2, "left out: not a regular file": 1}


def test_only_the_first_examples_are_kept_and_the_text_says_that_there_are_more():
    counter = RemarkCounter()
    for number in range(MAX_EXAMPLES + 3):
        counter.add("cut", f"{number}.jpg")
    (remark,) = counter.remarks
    assert remark.count == MAX_EXAMPLES + 3
    assert len(remark.examples) == MAX_EXAMPLES
    assert str(remark) == f"{MAX_EXAMPLES + 3} cut (0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...)"
    assert str(Remark("cut", 2)) == "2 cut"


def test_counts_of_parts_add_up_to_those_of_the_whole():
    names = [f"{number}.jpg" for number in range(8)]
    whole, first, second = RemarkCounter(), RemarkCounter(), RemarkCounter()
    for name in names:
        whole.add("cut", name)
    for name in names[:3]:
        first.add("cut", name)
    for name in names[3:]:
        second.add("cut", name)
    assert RemarkCounter([*first.remarks, *second.remarks]).remarks == whole.remarks


def test_a_hostile_file_name_is_harmless_in_the_terminal_and_valid_in_the_result_file():
    counter = RemarkCounter()
    counter.add("cut", "evil\x1b[2J\udcff.jpg")
    (remark,) = counter.remarks
    assert "\x1b" not in str(remark)
    assert remark.as_json() == {"kind": "cut", "count": 1, "examples": ["evil\x1b[2J\\udcff.jpg"]}
