"""The yardstick application of `bench_django.py`: an ordinary Django shop with much in memory."""
