"""The storefront example: touchpoints of a shop, mapped to tracking calls."""
