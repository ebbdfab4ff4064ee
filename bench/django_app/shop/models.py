"""What is in sqlite; the catalogue itself is in memory (table.py)."""

from __future__ import annotations

from django.db import models


class Customer(models.Model):
    """Who orders."""

    name = models.CharField(max_length=80)
    city = models.CharField(max_length=80)

    def __str__(self) -> str:
        return str(self.name)


class Order(models.Model):
    """What was ordered."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="orders")
    article = models.IntegerField()
    amount = models.IntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)
    placed = models.DateTimeField()

    class Meta:
        ordering = ("-placed",)

    def __str__(self) -> str:
        return f"order {self.pk}"
