"""What documents say, in each of their languages. Names, models and reasons are shown as they are."""

from collections.abc import Mapping
from datetime import date

from babel.dates import format_date

from farebox.core.settings import Language

_LOCALES: Mapping[Language, str] = {"en": "en_GB", "zh-Hans": "zh_Hans_CN"}

_ENGLISH = {
    "invoice": "Invoice",
    "statement": "Statement of account",
    "credit_note": "Credit note",
    "draft": "Draft",
    "number": "Number",
    "refers_to": "On invoice",
    "reason": "Reason",
    "issued_on": "Date",
    "due_on": "Due on",
    "period": "Period",
    "issuer": "From",
    "customer": "To",
    "tax_id": "Tax number",
    "description": "Description",
    "project": "Project",
    "quantity": "Quantity",
    "unit": "Unit",
    "unit_price": "Unit price",
    "exact_amount": "Exact amount",
    "amount": "Amount",
    "total": "Total",
    "paid_from_balance": "Paid from your balance",
    "amount_due": "Amount due",
    "credited": "Credited",
    "balance": "Your balance",
    "opening": "At the beginning",
    "top_ups": "Paid in",
    "grants": "Promotional credit given",
    "expiries": "Promotional credit expired",
    "usage": "Used",
    "fees": "Fees",
    "other": "Other",
    "closing": "At the end",
    "payment": "How to pay",
    "1M tokens": "1M tokens",
    "1M items": "1M items",
    "1": "piece",
    "input_tokens": "input",
    "cached_input_tokens": "cached input",
    "output_tokens": "output",
    "items": "items",
    "rounding": "Each line is rounded once, half to even. The balance is kept exactly.",
    "no_lines": "Nothing was used.",
}
_CHINESE = {
    "invoice": "账单",
    "statement": "对账单",
    "credit_note": "贷项通知单",
    "draft": "草稿",
    "number": "编号",
    "refers_to": "原账单",
    "reason": "原因",
    "issued_on": "开具日期",
    "due_on": "付款期限",
    "period": "账期",
    "issuer": "开具方",
    "customer": "客户",
    "tax_id": "税号",
    "description": "项目",
    "project": "所属项目",
    "quantity": "数量",
    "unit": "单位",
    "unit_price": "单价",
    "exact_amount": "精确金额",
    "amount": "金额",
    "total": "合计",
    "paid_from_balance": "已从余额支付",
    "amount_due": "应付金额",
    "credited": "冲减金额",
    "balance": "账户余额",
    "opening": "期初余额",
    "top_ups": "充值",
    "grants": "赠送额度",
    "expiries": "赠送额度到期",
    "usage": "用量费用",
    "fees": "套餐费用",
    "other": "其他",
    "closing": "期末余额",
    "payment": "付款方式",
    "1M tokens": "百万词元",
    "1M items": "百万条",
    "1": "项",
    "input_tokens": "输入",
    "cached_input_tokens": "缓存输入",
    "output_tokens": "输出",
    "items": "条目",
    "rounding": "每行金额仅舍入一次，采用四舍六入五成双；余额按精确金额记录。",
    "no_lines": "本期无用量。",
}
WORDS: Mapping[Language, Mapping[str, str]] = {"en": _ENGLISH, "zh-Hans": _CHINESE}


def written_day(iso: str, language: Language) -> str:
    """`1 December 2026`, `2026年12月1日`."""
    return format_date(date.fromisoformat(iso), format="long", locale=_LOCALES[language])
