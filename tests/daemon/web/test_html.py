from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from daemon.web.html import Markup, join, tag


class Reading(HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_data(self, data):
        self.text += data


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_whatever_a_text_is_it_stays_text(text, value):
    page = Reading(tag("p", text, title=value))
    assert [name for name, _ in page.tags] == ["p"]
    assert page.text == "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def test_markup_stays_none_is_left_out_numbers_are_text():
    assert tag("p", Markup("<b>x</b>"), None, 7, class_="a", title=None) == '<p class="a"><b>x</b>7</p>'
    assert join("<", tag("br")) == "&lt;<br>"
