"""Templates as data from strangers: what they may do, and what bounds them."""

import pytest

from farebox_engine import LoadError, TemplateError
from farebox_engine.tokenization.templates.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


def render(source: str, **variables: object) -> str:
    return ChatTemplate(source, variables).render(MESSAGES, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{{ m['content'] }}{% if loop.last %}.{% endif %}{% endfor %}", "onetwo."),
        (
            "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
            "one",
        ),
        (
            "{{ messages | tojson }}",
            '[{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]',
        ),
        ("{{ {'a': '<é>'} | tojson(indent=2) }}", '{\n  "a": "<é>"\n}'),
        ("{% generation %}{{ messages[1].content }}{% endgeneration %}", "two"),
        (
            "{% set ns = namespace(n=0) %}\n{% for m in messages %}\n"
            "{% set ns.n = ns.n + 1 %}\n{% endfor %}{{ ns.n }}",
            "2",
        ),
        ("{{ '-' * 3 ~ 2 * 3 ~ 2 ** 3 }}", "---68"),
        ("{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(2, first=true) }}", "a\n  b|  a\n  b"),
        ("{% macro shout(text) %}{{ text | upper }}{% endmacro %}{{ shout(messages[0].content) }}", "ONE"),
        ("{{ bos_token }}{{ messages[0].content.split('n')[0] }}", "<s>o"),
        ("{{ missing is defined }}{{ missing }}", "False"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        # As in Jinja's sandbox, what may not be reached is as if it was not there.
        ("{{ '{0.__class__}'.format('x') }}{{ '{a[__init__]}'.format_map({'a': cycler}) }}", ""),
    ],
)
def test_templates_may_do_what_checkpoints_do(source: str, expected: str) -> None:
    assert render(source, bos_token="<s>") == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages[0].update(role='system') }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ messages * 10 ** 9 }}",
        "{{ 9 ** 9 ** 9 ** 9 ** 9 }}",
        "{{ 2 ** 100000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'x'.center(10 ** 9) }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ range(10 ** 9) | list }}",
        "{{ ('x' * 99999) * 99999 }}",
        "{{ ('x' * 99999).join('y' * 99999) }}",
        "{{ ['x' * 99999] * 99999 | length }}",
        "{{ (['x' * 99999] * 99999) | join }}",
        "{{ [{'a': 'x' * 99999}] * 9999 | length }}{{ ([{'a': 'x' * 99999}] * 9999) | join(attribute='a') }}",
        "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
        "{{ 'x' * 99999 | replace('', 'y' * 99999) }}{{ ('x' * 99999) | replace('', 'y' * 99999) }}",
        "{% set ns = namespace(t='xx') %}{% for _ in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
        "{% set ns = namespace(t='xx') %}{% for _ in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
        "{% set ns = namespace(t=[1]) %}{% for _ in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
        "{% set ns = namespace(t='xx') %}{% for _ in range(60) %}{% set ns.t %}{{ ns.t }}{{ ns.t }}"
        "{% endset %}"
        "{% endfor %}",
        "{{ ('\\t' * 99999).expandtabs(99999) }}",
        "{{ ('x ' * 99999) | wordwrap(1, wrapstring='y' * 99999) }}",
        "{{ 'x' | indent(10 ** 9, true) }}",
        "{{ [[1] * 999999] * 999 | sum(start=[]) | length }}"
        "{{ ([[1] * 999999] * 999) | sum(start=[]) | length }}",
        "{{ [1] | batch(10 ** 9, 0) | list }}",
        "{{ [1] | slice(10 ** 9) | list }}",
        "{{ '%*d' % (10 ** 9, 1) }}",
        "{{ '%.1000000000f' | format(1.0) }}",
        "{{ ('{0}' * 99999).format('x' * 99999) }}",
        "{{ '{:{w}}'.format(1, w=10 ** 9) }}",
        "{{ messages | tojson(separators=('x' * 99999, ':')) }}",
        "{{ messages | tojson(indent=10 ** 9) }}",
        "{{ namespace(_x=1) }}",
        "{{ dict.__base__ }}{{ dict.mro() }}",
        "{{ strftime_now('%c' * 9999) }}",
        "{% macro deep() %}{{ deep() }}{% endmacro %}{{ deep() }}",
        "{{ messages[0].content.nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ raise_exception('roles must alternate') }}",
    ],
)
def test_templates_that_go_too_far_fail_in_one_sentence(source: str) -> None:
    with pytest.raises((TemplateError, LoadError)) as failure:
        render(source)
    assert "\n" not in str(failure.value)


def test_a_refusal_of_the_template_is_passed_on() -> None:
    with pytest.raises(TemplateError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "body",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) if range(99999) | select('odd') | list %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    ],
)
def test_an_endless_template_is_stopped(body: str) -> None:
    template = ChatTemplate(body, {}, max_seconds=0.2)
    # Each would take minutes at the least: that this returns is the point.
    with pytest.raises(TemplateError, match="longer than 0.2 seconds"):
        template.render(MESSAGES, add_generation_prompt=True)


def test_deep_json_is_not_indented_without_end() -> None:
    deep: object = list(range(9999))
    for _ in range(300):
        deep = [deep]
    messages = [{"role": "user", "content": deep}]
    with pytest.raises(TemplateError, match="characters"):
        ChatTemplate("{{ messages | tojson(indent=8) }}", {}).render(messages, add_generation_prompt=True)


def test_an_endless_text_is_stopped() -> None:
    template = ChatTemplate("{% for a in range(99999) %}xxxxxxxxxx{% endfor %}", {}, max_characters=10_000)
    with pytest.raises(TemplateError, match="more than 10000 characters"):
        template.render(MESSAGES, add_generation_prompt=True)


def test_a_template_that_does_not_compile_is_refused_at_load() -> None:
    with pytest.raises(LoadError, match="does not compile"):
        ChatTemplate("{% for m in %}", {})
