"""Templates as data from strangers: what they may do, and what bounds them."""

import tracemalloc

import pytest

from farebox_engine import LoadError, TemplateError
from farebox_engine.tokenization.templates.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


def render(source: str, **variables: object) -> str:
    return ChatTemplate(source, variables).render(MESSAGES, add_generation_prompt=True).text


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


# What holds itself twice, again and again, in each way in which a template makes one thing of others.
DOUBLED = {
    "a list": "{% set ns.x = [ns.x, ns.x] %}",
    "a tuple": "{% set ns.x = (ns.x, ns.x) %}",
    "a dict": "{% set ns.x = {'a': ns.x, 'b': ns.x} %}",
    "a dict's views": "{% set d = {'a': ns.x, 'b': ns.x} %}{% set ns.x = [d.values(), d.items()] %}",
    "a call": "{% set ns.x = dict(a=ns.x, b=ns.x) %}",
    "a sum": "{% set ns.x = [ns.x] + [ns.x] %}",
    "a product": "{% set ns.x = [ns.x] * 2 %}",
    "a cycler": "{% set ns.x = cycler(ns.x, ns.x).items %}",
    "a filter": "{% set ns.x = [ns.x] | batch(2, ns.x) | list %}",
    "a generator's item": "{% for b in [ns.x] | batch(2, ns.x) %}{% set ns.x = b %}{% endfor %}",
    "long texts": "{% set ns.x = [ns.x, ns.x] if ns.x is not string else ['y' * 99999] %}",
}
ENDS = {
    "written": "{{ ns.x }}",
    "a text": "{% set y = ns.x | string %}",
    "JSON": "{{ ns.x | tojson }}",
    "compared": "{{ ns.x == (ns.x | list) }}",
    "joined": "{{ ns.x ~ '' }}",
    "formatted": "{{ '%s' % [ns.x] }}",
}


@pytest.mark.parametrize("way", DOUBLED)
def test_what_holds_itself_again_and_again_is_counted_as_often_as_it_is_held(way: str) -> None:
    source = "{% set ns = namespace(x='y') %}{% for _ in range(60) %}" + DOUBLED[way] + "{% endfor %}"
    template = ChatTemplate(source + "{{ ns.x }}", {}, max_characters=10_000)
    # None would end without a bound: 2^60 texts.
    with pytest.raises(TemplateError, match="more than 10000 characters"):
        template.render(MESSAGES, add_generation_prompt=True)


@pytest.mark.parametrize("end", ENDS)
def test_what_is_within_the_bound_can_be_used_in_any_way(end: str) -> None:
    source = (
        "{% set ns = namespace(x='y') %}{% for _ in range(10) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
    )
    template = ChatTemplate(source + ENDS[end], {}, max_characters=10_000)
    assert template.render(MESSAGES, add_generation_prompt=True).text.count("y") in {0, 1024}


@pytest.mark.parametrize("work", ["{% if a == b %}{% endif %}", "{% set c = a | string %}"])
def test_long_work_is_stopped_without_a_loop_around_it(work: str) -> None:
    lists = "".join(
        f"{{% set ns = namespace(x=[1]) %}}{{% for _ in range(18) %}}{{% set ns.x = [ns.x, ns.x] %}}"
        f"{{% endfor %}}{{% set {name} = ns.x %}}"
        for name in "ab"
    )
    # Ten times as long, if nothing looked at the clock in between.
    template = ChatTemplate(lists + work * 1_000, {}, max_seconds=0.2)
    with pytest.raises(TemplateError, match="longer than 0.2 seconds"):
        template.render(MESSAGES, add_generation_prompt=True)


def test_namespaces_that_hold_each_other_are_not_written_out() -> None:
    linked = "".join(f"{{% set n{i}.x = [n{i + 1}, n{i + 1}] %}}" for i in range(60))
    made = "".join(f"{{% set n{i} = namespace(x=1) %}}" for i in range(61))
    assert render(made + linked + "{{ n0 }}") == "<Namespace>"


def test_a_macros_arguments_are_counted_too() -> None:
    macro = "{% macro m(n) %}{% if n %}{{ m(n - 1, varargs, varargs) }}{% else %}{{ varargs }}{% endif %}"
    with pytest.raises(TemplateError, match="more than 10000 characters"):
        ChatTemplate(macro + "{% endmacro %}{{ m(40, 1, 1) }}", {}, max_characters=10_000).render(
            MESSAGES, add_generation_prompt=True
        )


@pytest.mark.parametrize(
    "body", ["{% set t %}" + "{{ s }}" * 200 + "{% endset %}", "{{ " + "s ~ " * 200 + "s }}"]
)
def test_a_text_is_measured_before_it_is_put_together(body: str) -> None:
    template = ChatTemplate("{% set s = 'x' * 400000 %}" + body, {})
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError, match="more than 4000000 characters"):
            template.render(MESSAGES, add_generation_prompt=True)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


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
