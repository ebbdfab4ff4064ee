"""The admin pages of both models."""

from __future__ import annotations

from django.contrib import admin

from .models import Customer, Order


@admin.register(Customer)
class CustomerAdmin(admin.ModelAdmin):
    list_display = ("name", "city")
    search_fields = ("name",)


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("id", "customer", "article", "amount", "price", "placed")
    list_filter = ("amount",)
    list_per_page = 20
