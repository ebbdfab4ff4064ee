"""A dataset of annotations: a list of dicts, as in many a training program."""


class Annotations:
    def __init__(self, count):
        self.items = [
            {"id": number, "file": f"{number:012}.jpg", "box": [number, number + 1, 20, 30]} for number in range(count)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        return item["id"], len(item["file"]) + sum(item["box"])
