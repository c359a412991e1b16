"""Built-in tasks by name; nothing is imported to know them."""

TASKS = {
    "lenet5-mnist": "searcher.tasks.lenet5:lenet5_mnist",
    "lenet5-mnist-full": "searcher.tasks.lenet5:lenet5_mnist_full",
    "lenet5-fashion": "searcher.tasks.lenet5:lenet5_fashion",
}
