"""Word pieces to words to phrases, and the page that shows them."""

from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.interpret import (
    Attribution,
    Words,
    by_phrase,
    by_word,
    token_page,
    word_spans,
)
from recsys_lib.interpret.words import word_of_token
from recsys_lib.models import load_tokenizer
from recsys_lib.workbook import InputError

TOKENIZER = load_tokenizer()


def attributed(text: str, values=None, **options) -> Attribution:
    """An attribution of a text with given values, as the model's tokenizer cuts it."""
    out = TOKENIZER(text, return_offsets_mapping=True, **options)
    tokens = tuple(TOKENIZER.convert_ids_to_tokens(out["input_ids"]))
    if values is None:
        values = np.arange(1.0, len(tokens) + 1)
    offsets = np.array(out["offset_mapping"], dtype=np.int64)
    return Attribution(text, tokens, offsets, np.array(values), 1.0, 0.0, False, "given")


def shown(text: str, values, **options) -> Words:
    return Words(text, word_spans(text), np.array(values, dtype=float), **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Didn't love it.", ["Didn't", "love", "it", "."]),
        ("well-made—truly!", ["well-made", "—", "truly", "!"]),
        ("it’s 5'4\", 100%", ["it’s", "5'4", '"', ",", "100", "%"]),
        ("naïve\tcafé\n$9", ["naïve", "café", "$", "9"]),
        (" \n ", []),
    ],
)
def test_words_are_what_a_reader_would_say(text, words):
    assert [text[start:end] for start, end in word_spans(text)] == words


def test_pieces_are_summed_into_words_and_special_tokens_kept_apart():
    found = attributed("Didn't unravelled.")
    assert found.tokens == ("[CLS]", "didn", "'", "t", "un", "##rave", "##lled", ".", "[SEP]")
    words = by_word(found)
    assert words.words == ("Didn't", "unravelled", ".")
    np.testing.assert_array_equal(words.values, [2 + 3 + 4, 5 + 6 + 7, 8])
    assert words.rest == 1 + 9
    assert words.values.dtype == np.float64 and words.spans.dtype == np.int64


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_nothing_is_lost_on_the_way_to_words(text):
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return
    found = attributed(text)
    words = by_word(found)
    assert words.values.sum() + words.rest == pytest.approx(found.values.sum())
    assert all(word.strip() for word in words.words)


def test_a_token_that_begins_with_the_space_before_its_word_belongs_to_the_word():
    text = "so fine !"
    offsets = np.array([[0, 2], [2, 7], [7, 9], [0, 0]])
    assert word_of_token(word_spans(text), offsets).tolist() == [0, 1, 2, -1]


def test_phrases_are_sums_of_words_and_the_others_stay_in_the_rest():
    text = "not good at all, but cheap"
    words = shown(text, [-2, 1, 0.5, 0.25, 0, -0.5, 3], rest=0.1)
    phrases = by_phrase(words, [(21, 26), (0, 8)])
    assert phrases.words == ("not good", "cheap")
    np.testing.assert_array_equal(phrases.values, [-1, 3])
    assert phrases.rest == pytest.approx(0.1 + 0.5 + 0.25 - 0.5)
    nothing = by_phrase(words, np.empty((0, 2)))
    assert len(nothing) == 0 and nothing.rest == pytest.approx(words.values.sum() + 0.1)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 8), (4, 10)], "two phrases overlap at character 4"),
        ([(0, 99)], r"phrase \(0, 99\) is not inside the text of 13 characters"),
        ([(3, 3)], r"phrase \(3, 3\) is not inside"),
        ([(3, 4)], r"phrase \(3, 4\) holds no word"),
    ],
)
def test_phrases_that_make_no_sense_are_refused(spans, message):
    with pytest.raises(InputError, match=message):
        by_phrase(shown("not that good", [1, 2, 3]), spans)


class Page(HTMLParser):
    """The text of a page, the tags in it and the style of each word."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.tags, self.styles, self.stack = "", [], {}, []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.stack.append((tag, dict(attrs).get("style", "")))

    def handle_endtag(self, tag):
        assert self.stack.pop()[0] == tag, "a tag is closed that was not open"

    def handle_data(self, data):
        self.text += data
        style = next((s for _, s in reversed(self.stack) if "background" in s), "")
        self.styles.setdefault(data, set()).add((style, "b" in dict(self.stack)))


def test_text_from_data_is_escaped_everywhere():
    evil = '<script>alert("x")</script> & <b>bold</b>'
    words = by_word(attributed(evil))
    page = Page(token_page([words], title=evil, names=[evil], label=evil))
    assert page.text.count(evil) == 3  # title, name and label; the text has numbers between
    assert set(page.tags) <= {"div", "p", "b", "i", "span", "small", "sup"}
    assert not page.stack


def test_all_texts_share_one_scale_which_is_shown():
    page = Page(token_page([shown("awful", [-4]), shown("nice awful", [2, -2])]))
    assert "−4.00" in page.text and "+4.00" in page.text
    strong, weak = page.styles["awful"]
    assert strong != weak, "the same word with other values must look otherwise"
    half = {style for style, _ in page.styles["nice"]}
    scale = {style for style, _ in page.styles["+2.00"]}
    assert half == scale and "background" in half.pop()


def test_the_sign_can_be_read_without_styles():
    html = token_page([shown("nice awful so", [2, -2, 0])])
    assert "<b>nice</b><sup>+2.00</sup>" in html
    assert "<i>awful</i><sup>−2.00</sup>" in html
    assert '<span title="+0.000">so</span>' in html


def test_the_page_says_where_the_model_stopped():
    text = "good until here and more"
    cut = Words(text, word_spans(text)[:3], np.ones(3), truncated=True)
    page = Page(token_page([cut]))
    assert "here … (the model did not read on from here)" in page.text.replace("+1.00", "")
    assert "more" not in page.text


def test_values_beyond_the_limit_have_the_full_color():
    page = Page(token_page([shown("one two", [1, 5])], limit=1))
    assert page.styles["one"] == page.styles["two"]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "there is no word to show"),
        ([shown("a", [1])], {"names": []}, "1 texts but 0 names"),
        ([shown("a", [np.nan])], {}, "text 0 has a value that is not a number"),
        ([shown("a", [1])], {"limit": 0}, "limit=0 must be a number above 0"),
    ],
)
def test_a_page_of_nothing_is_refused(texts, options, message):
    with pytest.raises(InputError, match=message):
        token_page(texts, **options)


def test_words_without_any_effect_can_be_shown():
    assert "fine" in token_page([shown("fine", [0])])
